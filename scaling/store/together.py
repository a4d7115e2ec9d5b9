"""Which trials are written together, in few transactions, and which one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scaling.store.bulk import Bulk, UntestedTables, has_tables
from scaling.store.pending import PendingTrial
from scaling.store.run_rows import NotTaken
from scaling.store.write_trial import TrialWriter

RUNS = 64  # most in a transaction
EVALUATIONS = 20_000  # about, unless a single trial has more: others wait meanwhile


class Together:
    """Writes what it can of some trials at once; what it leaves is written one by one.

    A trial that is left once, because the store had it or might refuse it, is left from then on.
    """

    def __init__(
        self, writer: TrialWriter, uri: str, experiment_id: str, say: Callable[[str], None]
    ) -> None:
        self._writer, self._say = writer, say
        self._singly: set[str] = set()  # identities
        self._bulk: Bulk | None = None
        if has_tables(uri):
            self._bulk = Bulk(uri, experiment_id)
            try:
                self._bulk.check_tables()
            except UntestedTables as error:
                self._do_without(error)

    def _do_without(self, error: UntestedTables) -> None:
        self._bulk = None
        self._say(
            f"the store's tables have the revision {error}, which this version was not tested "
            "with: trials are written one by one through MLflow's API, which is slower"
        )

    def leave_out(self, trial: PendingTrial) -> None:
        self._singly.add(trial.trial_id)

    def write(self, trials: Iterable[PendingTrial]) -> set[PendingTrial]:
        """Write the first ones of these; returns those that are written."""
        batch = self._batch(trials) if self._bulk is not None else []
        if self._bulk is None or not batch:
            return set()
        written: set[PendingTrial] = set()
        try:
            written = self._writer.write_together(batch, self._bulk)
        except UntestedTables as error:  # migrated meanwhile
            self._do_without(error)
        except NotTaken:
            pass  # one of them may be refused, and then MLflow says why
        self._singly |= {trial.trial_id for trial in batch if trial not in written}
        return written

    def _batch(self, trials: Iterable[PendingTrial]) -> list[PendingTrial]:
        batch: list[PendingTrial] = []
        n_evaluations = 0
        for trial in trials:
            if trial.trial_id in self._singly:
                continue
            n_evaluations += len(trial.evaluations)
            if len(batch) == RUNS or (batch and n_evaluations > EVALUATIONS):
                break
            batch.append(trial)
        return batch
