"""Writes what is known of a trial into its run: points, params, tags, pictures, files, its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import schema
from scaling.record.files import end_of_log, file_of
from scaling.record.journal import JournalError
from scaling.store.bulk import Bulk
from scaling.store.check import is_refused
from scaling.store.client import Point, Store
from scaling.store.note import Acknowledged
from scaling.store.pending import PendingTrial
from scaling.store.run_rows import NewRun, NotTaken, RunRows, new_run_id, rows_of
from scaling.store.runs import LeaveOut, Runs

PICTURE = "pictures"  # key of the image slider


@dataclass(frozen=True)
class _Unwritten:
    """What the store lacks of a trial; n_points, n_params: how many its run has with that."""

    steps: list[int]
    points: list[Point]
    params: dict[str, Any]
    tags: dict[str, str]
    n_points: int
    n_params: int


@dataclass(frozen=True)
class _Begun:
    trial: PendingTrial
    new: _Unwritten
    rows: RunRows


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
        if self._goes_on(trial):
            self._store.set_status(run_id, "RUNNING")
            noted.note(opened=trial.key)
        new = self._unwritten(run_id, trial, made)
        self._store.log(run_id, new.points, new.params, new.tags)
        self._acknowledge(trial, new)
        self._write_pictures(run_id, trial, made)
        if end is not None:
            self._write_files(run_id, trial, end, made)
            self._store.set_status(run_id, _status(end), end["time"])
            self._note_end(trial, end)

    def write_together(self, trials: Sequence[PendingTrial], bulk: Bulk) -> set[PendingTrial]:
        """As `write`, of many at once; those that are written. The others are for `write`.

        Rows first, files then, and last what has ended: as it is done one by one. NotTaken: none.
        """
        begun = self._begin(trials, bulk)
        if not begun:
            return set()
        places = bulk.write([one.rows for one in begun])
        self._store.know_artifacts(places)
        begun = [one for one in begun if one.rows.run_id in places]
        for one in begun:
            if one.rows.run is not None:
                self._noted.note(run=one.trial.key, run_id=one.rows.run_id)
            self._acknowledge(one.trial, one.new)
        begun = [one for one in begun if self._all_files_taken(one)]
        ends = [(one, end) for one in begun if (end := one.trial.course.end) is not None]
        closing = [(one.rows.run_id, _status(end), end["time"]) for one, end in ends]
        ended = bulk.end(closing) if closing else set()
        for one, end in ends:
            if one.rows.run_id in ended:
                self._note_end(one.trial, end)
        open_ones = {one.trial for one in begun if one.trial.course.end is None}
        return open_ones | {one.trial for one, _ in ends if one.rows.run_id in ended}

    def _begin(self, trials: Sequence[PendingTrial], bulk: Bulk) -> list[_Begun]:
        """Rows of those trials that can be written so; their runs are noted as begun."""
        fresh = [trial for trial in trials if trial.key not in self._noted.runs]
        unsure = [one.trial_id for one in fresh if self._runs.may_have(one)]
        held = bulk.holders(unsure) if unsure else set()
        begun = []
        for trial in trials:
            if trial.trial_id in held or self._goes_on(trial):
                continue
            try:
                begun.append(self._begin_one(trial))
            except Exception as error:
                if not (is_refused(error) or isinstance(error, (NotTaken, OverflowError))):
                    raise
        for one in begun:
            if one.rows.run is not None:
                self._runs.begin(one.trial)
        return begun

    def _begin_one(self, trial: PendingTrial) -> _Begun:
        run_id, made = self._noted.runs.get(trial.key), None
        if run_id is None:
            run_id = new_run_id()
            made = NewRun(trial.name, trial.course.first["time"], self._runs.first_tags(trial))
        new = self._unwritten(run_id, trial, made is not None)
        return _Begun(trial, new, rows_of(run_id, made, new.points, new.params, new.tags))

    def _all_files_taken(self, one: _Begun) -> bool:
        run_id, trial, made = one.rows.run_id, one.trial, one.rows.run is not None
        end = trial.course.end
        try:
            self._write_pictures(run_id, trial, made)
            if end is not None:
                self._write_files(run_id, trial, end, made)
        except Exception as error:
            if not is_refused(error):
                raise
            return False
        return True

    def _goes_on(self, trial: PendingTrial) -> bool:
        """Interrupted before, training again."""
        return trial.course.end is None and trial.key in self._noted.closed

    def _unwritten(self, run_id: str, trial: PendingTrial, made: bool) -> _Unwritten:
        """Points, params and tags; of a run that was there before, what the store says it lacks."""
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
        return _Unwritten(steps, points, params, tags, n_points + len(points), n_params)

    def _acknowledge(self, trial: PendingTrial, new: _Unwritten) -> None:
        about = {"points": new.n_points, "params": new.n_params, "trial_id": trial.trial_id}
        self._noted.note(steps=new.steps, **about)
        for step in new.steps:
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

    def _write_files(
        self, run_id: str, trial: PendingTrial, end: dict[str, Any], made: bool
    ) -> None:
        header = trial.course.latest
        files = {"config.yaml": header["config"], **header.get("files", {})}
        self._runs.write_texts(run_id, files, trial.name)
        for path in trial.models.values():
            if (file := self._file(trial, path)) is not None:
                self._store.log_file(run_id, file, "model")
        if end["record"] == "failure":
            text, refusal = end_of_log(self._folder, end["log"])
            if refusal:
                self._leave_out(f"file {end['log']}", f"{trial.name}: not sent: {refusal}")
            self._store.log_text(run_id, text, "train.log")
        elif not made and (self._noted.look_up or trial.trial_id in self._noted.failed):
            self._store.delete_tag(run_id, schema.ERROR)

    def _note_end(self, trial: PendingTrial, end: dict[str, Any]) -> None:
        failed = {"failed": trial.trial_id} if end["record"] == "failure" else {}
        about = {"trial_id": trial.trial_id, "closed": trial.key}
        self._noted.note(ended=trial.course.end_mark, **about, **failed)


def _status(end: dict[str, Any]) -> str:
    return "FAILED" if end["record"] == "failure" else "FINISHED"
