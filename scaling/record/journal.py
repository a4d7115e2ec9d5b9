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
interrupted and done again, or resumed, with the same numbers. What came after what follows
from `turn` alone: 1 when a trial begins for the first time, one more each time that it begins
again (scaling.record.replay). `time`, in seconds since 1970, is for people and MLflow; clocks go
wrong.

Format 2 had neither numbers, checksums nor turns; its journals are read, in the order of the times
at which their trials began.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from scaling.durable import LineFile
from scaling.record.process import this_process

JOURNAL_FORMAT = 3
SUFFIX = ".jsonl"


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


def journal_path(folder: Path, sweep: str) -> Path:
    """A new journal's path, which no other one has."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", sweep)[:100]
    return folder / f"{time.time_ns()}-{plain}-{os.getpid()}{SUFFIX}"
