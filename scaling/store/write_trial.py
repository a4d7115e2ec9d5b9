"""Writes what is known of a trial into its run: points, params, tags, pictures, files, its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scaling import schema
from scaling.record.files import end_of_log, file_of
from scaling.record.journal import JournalError
from scaling.store.client import Store
from scaling.store.note import Acknowledged
from scaling.store.pending import PendingTrial
from scaling.store.runs import LeaveOut, Runs

PICTURE = "pictures"  # key of the image slider


class TrialWriter:
    """folder: of the journals, in which the files lie that they name."""

    def __init__(
        self, folder: Path, store: Store, noted: Acknowledged, runs: Runs, leave_out: LeaveOut
    ) -> None:
        self._folder, self._store, self._noted = folder, store, noted
        self._runs, self._leave_out = runs, leave_out

    def write(self, trial: PendingTrial) -> None:
        """Everything that the store has not acknowledged yet."""
        noted, end = self._noted, trial.course.end
        run_id, made = self._runs.of_trial(trial)
        if end is None and trial.key in noted.closed:  # interrupted before, training again
            self._store.set_status(run_id, "RUNNING")
            noted.note(opened=trial.key)
        self._write_points(run_id, trial, made)
        self._write_pictures(run_id, trial, made)
        if end is not None:
            self._write_end(run_id, trial, end)

    def _write_points(self, run_id: str, trial: PendingTrial, made: bool) -> None:
        """With params and tags; of a run that was there before, what the store says it lacks."""
        noted, course = self._noted, trial.course
        steps = sorted(step for step in trial.evaluations if not noted.has(trial.trial_id, step))
        points, tags = trial.points(steps), trial.tags
        params: dict[str, Any] = {}
        n_points = noted.points.get(trial.trial_id, 0)
        n_params = noted.params.get(trial.trial_id, 0)
        unknown = trial.trial_id not in noted.steps  # of this run the note knows nothing
        stored: dict[str, set[int]] = {}
        if not made and (unknown or course.turn != course.first_turn):  # it may have ended before
            stored = self._store.points(run_id)
            points = [one for one in points if one[3] not in stored.get(one[0], ())]
        if unknown:
            params = {k: v for k, v in trial.params.items() if k not in schema.REQUESTED}
            n_params = len(params)
            if not made:
                n_points = sum(map(len, stored.values()))
                present = self._store.params(run_id)
                params = {k: v for k, v in params.items() if k not in present}
                tags = self._runs.first_tags(trial) | tags
        self._store.log(run_id, points, params, tags)
        n_points += len(points)
        noted.note(steps=steps, points=n_points, params=n_params, trial_id=trial.trial_id)
        for step in steps:
            trial.evaluations.pop(step, None)

    def _write_pictures(self, run_id: str, trial: PendingTrial, made: bool) -> None:
        written = self._noted.pictures.get(trial.trial_id)
        if trial.pictures and written is None:
            written = set() if made else self._store.picture_steps(run_id, PICTURE)
        new = []
        for step, (path, moment) in sorted(trial.pictures.items()):
            if step not in (written or ()) and (file := self._file(trial, path)) is not None:
                new.append((file, step, moment))
        if new:
            for path in self._store.log_pictures(run_id, new, PICTURE):
                self._leave_out(f"file {path}", f"{trial.name}: {path} is not a picture")
            steps = [step for _, step, _ in new]
            self._noted.note(pictures=steps, trial_id=trial.trial_id)
        trial.pictures.clear()

    def _file(self, trial: PendingTrial, path: str) -> Path | None:
        """A file of the trial's that may be sent; None, and a line that says why, if it may not."""
        try:
            return file_of(self._folder, path)
        except JournalError as error:
            self._leave_out(f"file {path}", f"{trial.name}: not sent: {error}")
            return None

    def _write_end(self, run_id: str, trial: PendingTrial, end: dict[str, Any]) -> None:
        failed = end["record"] == "failure"
        header = trial.course.latest
        files = {"config.yaml": header["config"], **header.get("files", {})}
        self._runs.write_texts(run_id, files, trial.name)
        for path in trial.models.values():
            if (file := self._file(trial, path)) is not None:
                self._store.log_file(run_id, file, "model")
        if failed:
            text, refusal = end_of_log(self._folder, end["log"])
            if refusal:
                self._leave_out(f"file {end['log']}", f"{trial.name}: not sent: {refusal}")
            self._store.log_text(run_id, text, "train.log")
        elif self._noted.look_up or trial.trial_id in self._noted.failed:
            self._store.delete_tag(run_id, schema.ERROR)
        self._store.set_status(run_id, "FAILED" if failed else "FINISHED", end["time"])
        self._noted.note(
            ended=trial.course.end_mark,
            trial_id=trial.trial_id,
            closed=trial.key,
            **({"failed": trial.trial_id} if failed else {}),
        )
