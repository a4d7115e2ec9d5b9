"""The record of training on disk: one JSON-lines file that the loop appends to.

Everything else (MLflow too) is made from it. Lines:

    {"record": "trial", "time": .., "trial": n, "trial_id": .., "name": .., "params": {..},
     "tags": {..}, "config": yaml}
    {"record": "evaluation", "time": .., "step": s, "trials": [n, ..], "loss": [..],
     "train_loss": [..], "lr": [..]}                              (the last two where there are any)
    {"record": "outcome", "time": .., "trial": n, "last_step": s, "tags": {..}, "metrics": {..}}

`trial` numbers the trials of one call of the launcher; one line holds the evaluation of a whole
stack. `time` is in seconds since 1970.
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
    """Follows a journal that is being written, from byte `start` on."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self._file = path.open("rb")
        self._file.seek(start)
        self._rest = b""

    def read(self, limit_bytes: int = 2**22) -> list[dict[str, Any]]:
        """The complete lines written since the last call, at most about `limit_bytes` of them."""
        lines = (self._rest + self._file.read(limit_bytes)).split(b"\n")
        self._rest = lines.pop()
        return [json.loads(line) for line in lines if line]

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
