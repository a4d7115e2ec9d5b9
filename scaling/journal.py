"""The record of training on disk: one JSON-lines file that the loop appends to.

Everything else (MLflow too) is made from it. Lines:

    {"record": "trial", "trial": n, "trial_id": .., "name": .., "time": .., "params": {..}, "tags": {..},
     "config": yaml}
    {"record": "evaluation", "step": s, "time": .., "trials": [n..], "loss": [..], "train_loss": [..],
     "lr": [..] or absent, "examples": e}
    {"record": "outcome", "trial": n, "time": .., "outcome": .., ...}

`trial` numbers a sweep's trials; one line holds the evaluation of a whole stack.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class Journal:
    """Appends records to a file, flushed line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: str, **fields: Any) -> None:
        line = {"record": record, "time": round(time.time(), 3), **fields}
        self._file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class JournalReader:
    """Follows a journal that is being written: `read` returns the complete lines since last time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r", encoding="utf-8")
        self._rest = ""

    def read(self, limit_characters: int = 2**22) -> list[dict[str, Any]]:
        text = self._rest + self._file.read(limit_characters)
        lines = text.split("\n")
        self._rest = lines.pop()
        return [json.loads(line) for line in lines if line]
