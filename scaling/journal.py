"""The record of training on disk: JSON-lines files that only ever grow.

Everything else (MLflow too) is made from it. Every line is one object; the first names the format:

    {"record": "journal", "time": .., "format": 1, "study": .., "sweep": {name, note, tags, ..}}
    {"record": "trial", "time": .., "trial": n, "trial_id": .., "name": .., "params": {..},
     "tags": {..}, "config": yaml}
    {"record": "evaluation", "time": .., "step": s, "trials": [n, ..], "loss": [..],
     "train_loss": [..], "lr": [..]}                              (the last two where there are any)
    {"record": "outcome", "time": .., "trial": n, "last_step": s, "diverged_step": s or null,
     "tags": {..}, "metrics": {..}}
    {"record": "end", "time": .., "status": "FINISHED" | "FAILED" | "KILLED"}

`trial` numbers the trials of one journal; one line holds the evaluation of a whole stack. `time`
is in seconds since 1970. The journals of a study lie in one folder; a trial that stands in several
was interrupted and done again with the same numbers, so the first word on each step is as good as
the last.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

JOURNAL_FORMAT = 1
SUFFIX = ".jsonl"


class JournalError(RuntimeError):
    """A journal that cannot be used; the message is one line and names the file."""


class Journal:
    """A new journal file; every line is flushed when it is written."""

    def __init__(self, path: Path, study: str, sweep: dict[str, Any]) -> None:
        self.path = path
        self._file = path.open("x", encoding="utf-8")
        self.write("journal", format=JOURNAL_FORMAT, study=study, sweep=sweep)

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


class FolderReader:
    """Follows all journals of a folder, those that appear later too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readers: dict[Path, JournalReader] = {}

    def read(self) -> list[tuple[str, dict[str, Any]]]:
        """Complete lines since the last call, each with its journal's name, journals in order."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path not in self._readers:
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
