"""Which run of a store is whose: of trials and sweeps, made once, found again, closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scaling import schema
from scaling.store.check import is_refused, reason_of
from scaling.store.client import Store
from scaling.store.held import HeldRun
from scaling.store.note import Acknowledged
from scaling.store.pending import PendingTrial, sweep_key, trial_key
from scaling.validation import validate_names

PARENT_TAG = "mlflow.parentRunId"
_COMPARED = (schema.KIND, schema.TRIAL_ID, schema.OUTCOME, schema.ERROR)
LeaveOut = Callable[[str, str], None]  # what, and the line that says why


class Runs:
    """Runs by key. A run that was begun and not noted may be in the store: it is looked for."""

    def __init__(self, store: Store, noted: Acknowledged, leave_out: LeaveOut) -> None:
        self._store, self._noted, self._leave_out = store, noted, leave_out
        self._unanswered: dict[str, dict[str, str]] = {}  # identities of such runs, by key

    def compare_note(self, thorough: bool) -> None:
        """Forget what was noted of a trial whose run is not, or no longer, as it was noted."""
        held = self._store.runs(_COMPARED)
        noted = self._noted
        ours = {i for i, run in held.items() if run.tags.get(schema.KIND) in ("trial", "sweep")}
        gone = [key for key, run_id in noted.runs.items() if run_id not in held]
        if not noted.look_up and (gone or ours - set(noted.runs.values())):
            noted.note(look_up=True)
        for key in gone:  # deleted, or the store is another one
            noted.note(lost=key)
        known = {trial_id: noted.runs.get(trial_key(trial_id)) for trial_id in noted.steps}
        run_ids = [run_id for run_id in known.values() if run_id is not None]
        counted = self._store.count_points(run_ids, thorough)
        for trial_id, run_id in known.items():
            if run_id is None or not self._is_as_noted(trial_id, held[run_id], counted.get(run_id)):
                noted.note(forget=trial_id)

    def _is_as_noted(self, trial_id: str, run: HeldRun, n_points: int | None) -> bool:
        noted = self._noted
        if n_points is not None and n_points < noted.points[trial_id]:
            return False
        if run.n_params < noted.params[trial_id] or run.tags.get(schema.TRIAL_ID) != trial_id:
            return False
        ended = trial_id in noted.ended
        closed = trial_key(trial_id) in noted.closed
        has_end = schema.OUTCOME in run.tags or schema.ERROR in run.tags
        return (has_end or not ended) and (run.status != "RUNNING" or not (ended or closed))

    def of_trial(self, trial: PendingTrial) -> tuple[str, bool]:
        """The trial's run, and whether it was made now."""
        return self._run(
            trial.key,
            _identity(trial),
            trial.name,
            trial.course.first["time"],
            lambda: self.first_tags(trial),
        )

    def may_have(self, trial: PendingTrial) -> bool:
        """The store may have a run of this trial that is not noted."""
        return self._noted.look_up or trial.key in self._noted.begun

    def begin(self, trial: PendingTrial) -> None:
        """A run of the trial is about to be made, elsewhere than here."""
        if trial.key in self._noted.begun:
            self._unanswered[trial.key] = _identity(trial)
        self._noted.note(begun=trial.key)

    def first_tags(self, trial: PendingTrial) -> dict[str, str]:
        """Of a trial's run when it is made."""
        return {
            **trial.course.first["tags"],
            **trial.sweep["tags"],
            PARENT_TAG: self.of_sweep(trial.sweep),
            schema.KIND: "trial",
            schema.STUDY: trial.sweep["study"],
            schema.SWEEP: trial.sweep["name"],
            schema.TRIAL_ID: trial.trial_id,
        }

    def of_sweep(self, sweep: dict[str, Any]) -> str:
        """The parent run of a sweep's trials."""
        name, tags = sweep["name"], sweep["tags"]
        identity = {schema.KIND: "sweep", schema.SWEEP: name}
        identity |= {key: tags[key] for key in ("host", "directory")}
        others = {schema.STUDY: sweep["study"], "mlflow.note.content": sweep["note"], **tags}
        title = sweep.get("title", name)
        run_id, _ = self._run(
            sweep_key(name), identity, title, sweep["time"], lambda: others | identity
        )
        return run_id

    def _run(
        self,
        key: str,
        identity: dict[str, str],
        name: str,
        moment: float,
        tags: Callable[[], dict[str, str]],
    ) -> tuple[str, bool]:
        """The run `key`, made if it is not there, and whether it was."""
        if key in self._noted.runs:
            return self._noted.runs[key], False
        unanswered = key in self._noted.begun
        held = self._store.find_runs(identity) if unanswered or self._noted.look_up else []
        if unanswered:
            self._unanswered[key] = identity
        run_id = held[0] if held else None
        if run_id is None:
            made_of = tags()
            self._noted.note(begun=key)
            run_id = self._store.create_run(name, moment, made_of)
        self._noted.note(run=key, run_id=run_id)
        return run_id, not held

    def delete_doubles(self) -> None:
        """A creation that was not answered may have been done late, after it was repeated."""
        for key, identity in self._unanswered.items():
            for run_id in self._store.find_runs(identity):
                if run_id != self._noted.runs.get(key):
                    self._store.delete_run(run_id)

    def is_deleted(self, trial: PendingTrial) -> bool:
        """The trial's run was deleted in MLflow's pages; then it is forgotten here, too."""
        run_id = self._noted.runs.get(trial.key)
        if run_id is None or self._store.has_run(run_id):
            return False
        self._noted.note(lost=trial.key)
        self._noted.note(forget=trial.trial_id)
        return True

    def close(self, key: str, status: str) -> None:
        try:
            self._store.set_status(self._noted.runs[key], status)
        except Exception as error:
            if not is_refused(error):
                raise
            line = f"{key}: the store does not close its run ({reason_of(error)})"
            self._leave_out(key, line)
        self._noted.note(closed=key)

    def write_texts(self, run_id: str, files: dict[str, str], whose: str) -> None:
        for name, text in files.items():
            try:
                validate_names("files", [name])
                self._store.log_text(run_id, text, name)
            except Exception as error:
                if not is_refused(error):
                    raise
                line = f"{whose}: its file {name} ({reason_of(error)})"
                self._leave_out(f"file {whose} {name}", line)


def _identity(trial: PendingTrial) -> dict[str, str]:
    return {schema.KIND: "trial", schema.TRIAL_ID: trial.trial_id}
