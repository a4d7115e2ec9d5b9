"""The record of training on disk: JSON-lines files that only ever grow.

Everything else (MLflow too) is made from it. Every line is one object; the first names the format:

    {"record": "journal", "time": .., "format": 2, "study": .., "sweep": {name, note, tags, ..},
     "host": .., "pid": .., "process_started": .., "slurm_job": ..}      (the last one in a job)
    {"record": "trial", "time": .., "trial": n, "trial_id": .., "name": .., "params": {..},
     "tags": {..}, "config": yaml, "files": {name: text}}            (files where there are any)
    {"record": "evaluation", "time": .., "step": s, "trials": [n, ..], "loss": [..],
     "train_loss": [..], "lr": [..], "metrics": {name: [..]}}   (the last three where there are any)
    {"record": "picture", "time": .., "trial": n, "step": s, "path": in the folder}
    {"record": "model", "time": .., "trial": n, "kind": "best" | "last", "path": in the folder}
    {"record": "outcome", "time": .., "trial": n, ..}       (the fields of outcome.TrialResult)
    {"record": "failure", "time": .., "trial": n, "error": first line, "log": path}
    {"record": "notice", "time": .., "text": one line for whoever watches}
    {"record": "sweep", "time": .., "tags": {..}, "files": {name: text}}     (of the sweep itself)
    {"record": "end", "time": .., "status": "FINISHED" | "FAILED" | "KILLED"}

One process writes one journal: each worker its own, and the sweep's process one that holds the
failures and the end. `trial` is the number of the trial's job; one line holds the evaluation of a
whole stack. `time` is in seconds since 1970. The journals of a study lie in one folder; a trial
that stands in several was interrupted and done again, or gone on with, with the same numbers, so
the first word on each step is as good as the last.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

import psutil

from scaling.durable import LineFile
from scaling.slurm_job import slurm_job_is_alive, this_slurm_job

JOURNAL_FORMAT = 2
SUFFIX = ".jsonl"


class JournalError(RuntimeError):
    """A journal that cannot be used; the message is one line and names the file."""


class RecordError(RuntimeError):
    """A journal cannot be written: nothing more can be recorded, so nothing is trained."""


class Journal:
    """A new journal file; every line is with the operating system when `write` returns."""

    def __init__(self, path: Path, study: str, sweep: dict[str, Any]) -> None:
        self.path = path
        try:
            self._file = LineFile(path, "x")
        except FileExistsError:
            raise
        except OSError as error:
            raise RecordError(f"{path}: {error.strerror}") from None
        self.write("journal", format=JOURNAL_FORMAT, study=study, sweep=sweep, **this_process())

    def write(self, record: str, **fields: Any) -> None:
        """RecordError if the file system refuses; the file then ends in its last whole line."""
        try:
            self._file.append({"record": record, "time": round(time.time(), 3), **fields})
        except OSError as error:
            raise RecordError(f"{self.path}: {error.strerror}") from None

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
    started = round(psutil.Process().create_time(), 2)
    here = {"host": socket.gethostname(), "pid": os.getpid(), "process_started": started}
    job = this_slurm_job()
    return here if job is None else {**here, "slurm_job": job}


def is_alive(process: dict[str, Any]) -> bool:
    """The process of `this_process` runs on this machine, or in a Slurm job on another one.

    False for what else ran on other machines: nobody here can know.
    """
    if process["host"] != socket.gethostname():
        return "slurm_job" in process and slurm_job_is_alive(process["slurm_job"])
    try:
        started = psutil.Process(process["pid"]).create_time()
    except psutil.Error:
        return False
    return abs(started - process["process_started"]) < 1.0


class JournalReader:
    """Follows one journal that may still be written; a torn last line waits for its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self._rest = b""

    def read(self, limit_bytes: int = 2**22) -> list[dict[str, Any]]:
        """The complete lines since the last call, at most about `limit_bytes` of them."""
        lines = (self._rest + self._file.read(limit_bytes)).split(b"\n")
        self._rest = lines.pop()
        return [self._line(line) for line in lines if line]

    @property
    def torn(self) -> bool:
        """The file ends in the middle of a line."""
        return bool(self._rest)

    def _line(self, line: bytes) -> dict[str, Any]:
        try:
            content = json.loads(line)
            kind = content["record"]
        except (ValueError, TypeError, KeyError):
            raise JournalError(f"{self.path}: not a journal of trials; move it away") from None
        if kind == "journal" and content["format"] != JOURNAL_FORMAT:
            raise JournalError(
                f"{self.path}: journal format {content['format']}, this version reads "
                f"{JOURNAL_FORMAT}; use the version that wrote it, or another record_dir"
            )
        return content

    def close(self) -> None:
        self._file.close()


def journal_path(folder: Path, sweep: str) -> Path:
    """A new journal's path; names sort by time, so that the first word on a step comes first."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", sweep)[:100]
    return folder / f"{time.time_ns()}-{plain}-{os.getpid()}{SUFFIX}"


def inside(folder: Path, path: str) -> Path:
    """A file that a journal names; JournalError if it lies outside of the journal's folder."""
    whole = (folder / path).resolve()
    if not whole.is_relative_to(folder.resolve()):
        raise JournalError(f"{folder}: a journal names a file outside of this folder ({path})")
    return whole


class FolderReader:
    """Follows the journals of a folder, later ones too, but for those that `new` finds there."""

    def __init__(self, folder: Path, new: bool = False) -> None:
        """new: by what is there, not by time: other machines have other clocks."""
        self._folder = folder
        self._passed = set(folder.glob(f"*{SUFFIX}")) if new else set()
        self._readers: dict[Path, JournalReader] = {}

    def read(self) -> list[tuple[str, dict[str, Any]]]:
        """Complete lines since the last call, each with its journal's name, journals in order."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path not in self._readers and path not in self._passed:
                self._readers[path] = JournalReader(path)
        lines = []
        for path, reader in self._readers.items():
            lines += [(path.stem, line) for line in reader.read()]
        return lines

    def torn(self) -> list[Path]:
        """Journals that end in the middle of a line: their writer was killed, or is writing."""
        return [path for path, reader in self._readers.items() if reader.torn]

    def __enter__(self) -> FolderReader:
        return self

    def __exit__(self, *exception: object) -> None:
        for reader in self._readers.values():
            reader.close()
