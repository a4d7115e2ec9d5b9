"""What an MLflow store has acknowledged of a study, noted in a file beside the journals.

The note only saves work: a write that was acknowledged and not noted is done again and changes
nothing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from scaling.durable import LineFile
from scaling.schema import without_password


class Acknowledged:
    """What one store has taken of a study: runs by identity, and how far each trial is written.

    Lines: {"look_up": true} first, if the store had runs that this note knows nothing of;
    {"begun": key} before a run is created, {"run": key, "run_id": ..} after;
    {"step": s, "trial_id": ..}; {"ended": time of the outcome or failure, "trial_id": ..};
    {"closed": key} when a run got its last status, {"opened": key} when it goes on,
    {"failed": trial_id}; {"picture": s, "trial_id": ..}.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self._path = note_path(folder, uri)
        self.look_up = False
        self.begun: set[str] = set()
        self.closed: set[str] = set()
        self.failed: set[str] = set()
        self.runs: dict[str, str] = {}
        self.steps: dict[str, int] = {}
        self.ended: dict[str, float] = {}
        self.pictures: dict[str, int] = {}
        if self._path.exists():
            for line in self._path.read_bytes().split(b"\n")[:-1]:
                self._take(json.loads(line))
            self._cut_torn_line()
        self._file = LineFile(self._path, "a")

    def _cut_torn_line(self) -> None:
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self._path.open("rb+") as file:
                file.truncate(whole)

    def _take(self, line: dict[str, Any]) -> None:
        if "look_up" in line:
            self.look_up = True
        if "begun" in line:
            self.begun.add(line["begun"])
        if "closed" in line:
            self.closed.add(line["closed"])
        if "failed" in line:
            self.failed.add(line["failed"])
        if "opened" in line:
            self.closed.discard(line["opened"])
        if "run" in line:
            self.runs[line["run"]] = line["run_id"]
        if "step" in line:
            self.steps[line["trial_id"]] = line["step"]
        if "picture" in line:
            self.pictures[line["trial_id"]] = line["picture"]
        if "ended" in line:
            self.ended[line["trial_id"]] = line["ended"]

    def note(self, **line: Any) -> None:
        self._file.append(line)
        self._take(line)

    def forget(self) -> None:
        """The store is not the one that acknowledged this: everything is to be written again."""
        self._file.close()
        self._path.write_bytes(b"")
        self._file = LineFile(self._path, "a")
        self.begun, self.closed, self.failed = set(), set(), set()
        self.runs, self.steps, self.ended, self.pictures = {}, {}, {}, {}

    def close(self) -> None:
        self._file.close()


def note_path(folder: Path, uri: str) -> Path:
    """Where it is noted what this store has taken; there is no such file before it took anything.

    The password is not part of the name: it may be changed.
    """
    name = hashlib.sha256(without_password(uri, whole=True).encode()).hexdigest()[:12]
    return folder / f"synced-{name}.json_lines"
