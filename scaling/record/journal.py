"""The record of training on disk: JSON-lines files that only ever grow.

Everything else (MLflow too) is made from it. Every line is one object; the first names the format:

    {"record": "journal", "time": .., "format": 3, "study": .., "sweep": {name, note, tags, ..},
     "host": .., "pid": .., "process_started": .., "boot": .., "start_ticks": ..,
     "slurm_job": ..}                                   (the last one in a job)
    {"record": "trial", "time": .., "trial": n, "trial_id": .., "turn": k, "name": ..,
     "params": {..}, "tags": {..}, "config": yaml, "files": {name: text}, "trains": false}
          (files if there are any; trains where the trial is only asked for otherwise than before)
    {"record": "evaluation", "time": .., "step": s, "trials": [n, ..], "loss": [..],
     "train_loss": [..], "lr": [..], "metrics": {name: [..]}}   (the last three where there are any)
    {"record": "picture", "time": .., "trial": n, "step": s, "path": in the folder}
    {"record": "model", "time": .., "trial": n, "kind": "best" | "last", "path": in the folder}
    {"record": "outcome", "time": .., "trial": n, ..}       (the fields of outcome.TrialResult)
    {"record": "failure", "time": .., "trial": n, "error": first line, "log": path}
    {"record": "notice", "time": .., "text": one line for whoever watches}
    {"record": "sweep", "time": .., "tags": {..}, "files": {name: text}}     (of the sweep itself)
    {"record": "end", "time": .., "status": "FINISHED" | "FAILED" | "KILLED"}

Every line also has its number in the file, "line", and ends in "check", a checksum of the rest.
One process writes one journal: each worker its own, and the sweep's process one that holds the
failures and the end. `trial` is the number of the trial's job; one line holds the evaluation of a
whole stack. The journals of a study lie in one folder; a trial that stands in several was
interrupted and done again, or gone on with, with the same numbers. What came after what follows
from `turn` alone: 1 when a trial begins for the first time, one more each time that it begins
again (scaling.record.replay). `time`, in seconds since 1970, is for people and MLflow; clocks go
wrong.

Format 2 had neither numbers, checksums nor turns; its journals are read, in the order of the times
at which their trials began.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from scaling.record.durable import LineFile, open_plain, read_line
from scaling.record.lines import check_line
from scaling.record.slurm_job import slurm_job_is_alive, this_slurm_job

JOURNAL_FORMAT = 3
READ_FORMATS = (2, 3)
CHECKED_FORMAT = 3  # from here on lines have numbers and checksums
SUFFIX = ".jsonl"
CHUNK_BYTES = 2**22


class JournalError(RuntimeError):
    """A journal that cannot be used; the message is one line and names the file."""


class RecordError(RuntimeError):
    """A journal cannot be written: nothing more can be recorded, so nothing is trained."""


class Journal:
    """A new journal file; every line is with the operating system when `write` returns."""

    def __init__(self, path: Path, study: str, sweep: dict[str, Any]) -> None:
        self.path = path
        self._n_lines = 0
        try:
            self._file = LineFile(path, "x")
        except FileExistsError:
            raise
        except OSError as error:
            raise RecordError(f"{path}: {error.strerror}") from None
        self.write("journal", format=JOURNAL_FORMAT, study=study, sweep=sweep, **this_process())

    def write(self, record: str, **fields: Any) -> None:
        """RecordError if the file system refuses; the file then ends in its last whole line."""
        place = {"record": record, "line": self._n_lines + 1, "time": round(time.time(), 3)}
        try:
            self._file.append({**place, **fields})
        except OSError as error:
            raise RecordError(f"{self.path}: {error.strerror}") from None
        self._n_lines += 1

    def flush_to_disk(self) -> None:
        self._file.flush_to_disk()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def this_process() -> dict[str, Any]:
    """What tells this process from every other one, now and later."""
    process = psutil.Process()
    here = {"host": socket.gethostname(), "pid": process.pid}
    here["process_started"] = round(process.create_time(), 2)
    here |= _start_since_boot(process.pid)
    job = this_slurm_job()
    return here if job is None else {**here, "slurm_job": job}


def _start_since_boot(pid: int) -> dict[str, Any]:
    """When a process started, on a clock that nobody sets; {} where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except OSError:
        return {}
    return {"boot": boot, "start_ticks": int(after_name.split()[19])}  # man 5 proc: starttime


def is_alive(process: dict[str, Any]) -> bool:
    """The process of `this_process` runs on this machine, or in a Slurm job on another one.

    False for what else ran on other machines: nobody here can know.
    """
    if process["host"] != socket.gethostname():
        return "slurm_job" in process and slurm_job_is_alive(process["slurm_job"])
    try:
        started = psutil.Process(process["pid"]).create_time()
    except (psutil.Error, ValueError, OverflowError):
        return False
    now = _start_since_boot(process["pid"])
    if now and "start_ticks" in process:
        return all(process[key] == value for key, value in now.items())
    return abs(started - process["process_started"]) < 1.0


class JournalReader:
    """Follows one journal that may still be written; a torn last line waits for its end.

    damaged: number and reason of each line that is left out.
    """

    def __init__(self, path: Path) -> None:
        """JournalError for what is no plain file."""
        self.path = path
        try:
            self._file = open_plain(path)
        except OSError as error:
            said = "is a link" if error.errno == errno.ELOOP else error.strerror
            raise JournalError(f"{path}: no journal: {said}; move it away") from None
        self._rest = b""
        self._number = 0
        self._format = 0
        self.damaged: list[tuple[int, str]] = []

    def read(self) -> list[dict[str, Any]]:
        """The complete lines since the last call, to the end of the file."""
        return [line for _, line in self.lines()]

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The same one by one, with their numbers."""
        while chunk := self._file.read(CHUNK_BYTES):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for text in lines:
                self._number += 1
                line = self._line(text)
                if line is not None:
                    yield self._number, line

    @property
    def torn(self) -> bool:
        """The file ends in the middle of a line."""
        return bool(self._rest)

    def _line(self, text: bytes) -> dict[str, Any] | None:
        try:
            line, _ = read_line(text, check=self._format >= CHECKED_FORMAT)
            check_line(line)
            kind = line["record"]
        except ValueError as error:
            if self._number == 1:
                raise JournalError(f"{self.path}: not a journal of trials; move it away") from None
            self.damaged.append((self._number, str(error)))
            return None
        if kind == "journal":
            if line["format"] not in READ_FORMATS:
                raise JournalError(
                    f"{self.path}: journal format {line['format']}, this version reads "
                    f"{READ_FORMATS[0]} and {READ_FORMATS[-1]}; use the version that wrote it, or "
                    "another record_dir"
                )
            self._format = line["format"]
        elif self._format >= CHECKED_FORMAT and line.get("line") != self._number:
            self.damaged.append((self._number, f"lines before it are lost: it was {line['line']}"))
            self._number = line["line"]
        return line

    def close(self) -> None:
        self._file.close()


def journal_path(folder: Path, sweep: str) -> Path:
    """A new journal's path, which no other one has."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", sweep)[:100]
    return folder / f"{time.time_ns()}-{plain}-{os.getpid()}{SUFFIX}"


def inside(folder: Path, path: str) -> Path:
    """A file that a journal names; JournalError if it lies outside of the journal's folder.

    A link, also one inside the folder, is refused: a copied folder is somebody else's word.
    """
    try:
        whole = (folder / path).resolve()
        top = folder.resolve()
        plain = whole == Path(os.path.normpath(top / os.path.relpath(folder / path, folder)))
    except (OSError, ValueError, RuntimeError):
        raise JournalError(f"{folder}: a journal names no file ({path[:200]!r})") from None
    if not whole.is_relative_to(top) or not plain:
        raise JournalError(
            f"{folder}: a journal names a link or a file outside of this folder ({path[:200]})"
        )
    return whole


class FolderReader:
    """Follows the journals of a folder, later ones too, but for those that `new` finds there.

    refused: why a file cannot be read at all; with strict the first of them is raised instead.
    """

    def __init__(self, folder: Path, new: bool = False, strict: bool = True) -> None:
        """new: by what is there, not by time: other machines have other clocks."""
        self._folder, self._strict = folder, strict
        self._passed = set(folder.glob(f"*{SUFFIX}")) if new else set()
        self._readers: dict[Path, JournalReader] = {}
        self._damaged: dict[Path, list[tuple[int, str]]] = {}
        self.refused: dict[Path, JournalError] = {}

    def read(self) -> list[tuple[str, dict[str, Any]]]:
        """Complete lines since the last call, each with its journal's name."""
        return [(name, line) for name, _, line in self.lines()]

    def lines(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """The same one by one, with their numbers; each journal to its end."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path not in self._readers and path not in self._passed:
                self._open(path)
        for path, reader in self._readers.items():
            if path in self.refused:
                continue
            try:
                for number, line in reader.lines():
                    yield path.stem, number, line
            except JournalError as error:
                self._refuse(path, error)

    def _open(self, path: Path) -> None:
        try:
            self._readers[path] = JournalReader(path)
        except JournalError as error:
            self._passed.add(path)
            self._refuse(path, error)

    def _refuse(self, path: Path, error: JournalError) -> None:
        if self._strict:
            raise error
        self.refused[path] = error

    def leave_out(self, journal: str, number: int, reason: str) -> None:
        """A whole line that says nothing that can be used."""
        self._damaged.setdefault(self._folder / f"{journal}{SUFFIX}", []).append((number, reason))

    def damages(self) -> list[str]:
        """A sentence for each journal that cannot be read, or of which lines are left out."""
        found = {path: [*reader.damaged] for path, reader in self._readers.items()}
        for path, lines in self._damaged.items():
            found.setdefault(path, []).extend(lines)
        said = [str(error) for error in self.refused.values()]
        for path, lines in found.items():
            if lines:
                number, reason = min(lines)
                more = f"; {len(lines) - 1} more lines of it cannot be used" * (len(lines) > 1)
                said.append(f"{path}: line {number} is damaged ({reason}){more}")
        return said

    def torn(self) -> list[Path]:
        """Journals that end in the middle of a line: their writer was killed, or is writing."""
        return [path for path, reader in self._readers.items() if reader.torn]

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    def __enter__(self) -> FolderReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
