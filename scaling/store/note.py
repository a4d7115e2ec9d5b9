"""What an MLflow store has acknowledged of a study, noted in a file beside the journals.

The note only saves work: a write that was acknowledged and not noted is done again and changes
nothing. So a note that is damaged is set aside, and what the store has is asked of the store.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from scaling.addresses import without_password
from scaling.durable import LineFile, open_plain, read_line

SET_ASIDE = ".damaged"


class Acknowledged:
    """What one store has taken of a study: runs by identity, and which steps of each trial.

    damage: "", or a line about a note that was damaged. Lines of the file, each with a checksum:
    {"look_up": true} first, if the store had runs that this note knows nothing of;
    {"begun": key} before a run is created, {"run": key, "run_id": ..} after;
    {"steps": [s, ..], "points": n, "params": n, "trial_id": ..}, how many of both the run has then;
    {"ended": which outcome or failure, "trial_id": ..}; {"said": digest, "sweep": ..};
    {"closed": key} when a run got its last status, {"opened": key} when it goes on;
    {"failed": trial_id}; {"pictures": [s, ..], "trial_id": ..};
    {"forget": trial_id} when its run is not as it was noted, {"lost": key} when that is gone.
    Older ones: {"step": s, "trial_id": ..} and {"picture": s, ..}, all up to s; they are forgotten:
    the store is asked instead.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self._path = note_path(folder, uri)
        self._clear()
        self.damage = ""
        try:
            self._read()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            aside = self._path.with_suffix(SET_ASIDE)
            self._path.replace(aside)
            self._clear()
            self.damage = (
                f"{self._path}: the note of what the store has is damaged ({reason}); moved to "
                f"{aside.name}, and the store is asked instead"
            )
        self._file = LineFile(self._path, "a")

    def _clear(self) -> None:
        self.look_up = False
        self.begun: set[str] = set()
        self.closed: set[str] = set()
        self.failed: set[str] = set()
        self.runs: dict[str, str] = {}
        self.steps: dict[str, set[int]] = {}
        self.points: dict[str, int] = {}
        self.params: dict[str, int] = {}
        self.ended: dict[str, str | float] = {}
        self.words: dict[str, str] = {}
        self.pictures: dict[str, set[int]] = {}

    def _read(self) -> None:
        try:
            with open_plain(self._path) as file:
                content = file.read()
        except FileNotFoundError:
            return
        whole = content.rfind(b"\n") + 1
        checked = False
        for text in content[:whole].split(b"\n")[:-1]:
            line, checked = read_line(text, check=checked)
            self._take(line)
        if whole < len(content):  # torn by a crash
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
        if line.get("run_id"):  # an answer that was cut off had none
            self.runs[line["run"]] = line["run_id"]
        if "steps" in line:
            self.steps.setdefault(line["trial_id"], set()).update(line["steps"])
            self.points[line["trial_id"]] = line["points"]
            self.params[line["trial_id"]] = line["params"]
        if "pictures" in line:
            self.pictures.setdefault(line["trial_id"], set()).update(line["pictures"])
        if "ended" in line and line["trial_id"] in self.steps:  # else of an older note
            self.ended[line["trial_id"]] = line["ended"]
        if "said" in line:
            self.words[line["sweep"]] = line["said"]
        if "forget" in line:
            trial_id = line["forget"]
            for known in (self.steps, self.points, self.params, self.ended, self.pictures):
                known.pop(trial_id, None)
        if "lost" in line:
            self.runs.pop(line["lost"], None)
            self.begun.discard(line["lost"])
            self.closed.discard(line["lost"])
            self.words.pop(line["lost"], None)

    def note(self, **line: Any) -> None:
        self._file.append(line)
        self._take(line)

    def has(self, trial_id: str, step: int) -> bool:
        """The store has the evaluation of a trial at this step."""
        return step in self.steps.get(trial_id, ())

    def close(self) -> None:
        self._file.close()


def note_path(folder: Path, uri: str) -> Path:
    """Where it is noted what this store has taken; there is no such file before it took anything.

    The password is not part of the name: it may be changed.
    """
    name = hashlib.sha256(without_password(uri, whole=True).encode()).hexdigest()[:12]
    return folder / f"synced-{name}.json_lines"
