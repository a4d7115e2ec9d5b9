"""What works for a sweep: the process that writes to MLflow, and what trains.

Starting them takes seconds, which a search would pay in every round: it keeps one crew to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from scaling import addresses, schema
from scaling.commands import command
from scaling.config import TrialConfig
from scaling.record.journal import RecordError
from scaling.store.check import StoreError
from scaling.store.follow import Destination
from scaling.store.writer import NoWriter, Writer, end_early
from sweeps.command_line.messages import StoppedAtOnce
from sweeps.run.executors import Executor, new_executor
from sweeps.run.options import LauncherOptions
from sweeps.run.progress import Count, progress_display
from sweeps.run.time_left import Pace
from sweeps.run.trainer import Place

log = logging.getLogger(__name__)
MOST_SHOWN = 5  # lines of what the store does not have
PATIENCE_WITHOUT_RECORD = 3.0  # seconds for the store when the record's disk is full


class Crew:
    """A writer and, while there is something to train, an executor.

    status: how the sweep ends as it looks now. n_trials: that were trained. pace: of
    its training, which the next round of a search begins with.
    """

    def __init__(self, config: TrialConfig, place: Place, keep: bool) -> None:
        self.keep = keep
        self.status = "FINISHED"
        self.n_trials = 0
        self.pace = Pace()
        self._folder = place.folder
        self._writer = _writer(config, place)
        self._executor: Executor | None = None
        self._open = self._gone = False

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside, trials may train; the crew goes afterwards, unless it is kept, or if all fails.

        The store is being opened meanwhile. StoppedAtOnce if interrupted inside.
        """
        try:
            yield
            if not self.keep:
                self.finish()
        except KeyboardInterrupt:
            self._leave()
            raise StoppedAtOnce from None  # the writer ends by itself
        except RecordError:
            self._leave()
            with suppress(StoreError):  # a full disk is often the store's too
                self._writer.close("FAILED", patience_seconds=PATIENCE_WITHOUT_RECORD)
            raise
        except BaseException:
            self.dismiss()
            raise

    def begin(self, executor: Executor | None) -> None:
        """Before anything trains. executor: what it trains in, if the crew has none. StoreError if
        the store cannot be used."""
        if self._executor is None and executor is not None:
            self._executor = executor
            executor.start()
        if not self._open:
            warning = self._writer.wait_until_open()
            self._open = True
            if warning:
                log.warning("%s", warning)

    @property
    def executor(self) -> Executor:
        assert self._executor is not None
        return self._executor

    @property
    def has_executor(self) -> bool:
        return self._executor is not None

    def look_after(self) -> None:
        """Pass on what the writer says, and start one that was killed again."""
        self._writer.look_after()

    def dismiss(self) -> None:
        """At once; the writer finishes by itself, without being waited for."""
        if not self._gone:
            self._leave()
            self._writer.abandon()  # it would wait for us, and we at our end for it

    def _leave(self) -> None:
        self._gone = True
        if self._executor is not None:
            self._executor.close(at_once=True)

    def finish(self) -> None:
        """Everything is written; StoreError if the store is away for longer than its patience,
        StoppedAtOnce if interrupted."""
        if self._gone:
            return
        self._gone = True
        try:
            if self._executor is not None:
                self._executor.close()
            if not isinstance(self._writer, NoWriter):
                self._write_the_rest()
        except KeyboardInterrupt:
            raise StoppedAtOnce from None

    def _write_the_rest(self) -> None:
        patience = self._writer.patience_seconds
        log.info("writing the rest to MLflow; a store that is away has %g s to come back", patience)
        with progress_display() as display:
            written = Count("writing to MLflow", self.n_trials, display)
            try:
                left_out = self._writer.close(self.status, written.set_of)
            except StoreError as error:
                n_trials = max(written.total, self.n_trials)
                raise StoreError(
                    f"{error}. All that was trained is on record; {written.done} of the "
                    f"{n_trials} trials to write are in the store; the rest: "
                    f"{command('sync', str(self._folder))}"
                ) from None
        if left_out.n_refused:
            raise StoreError(
                f"not in the store: {in_a_line(left_out.lines)}. All that was trained is on "
                f"record; to retry: {command('sync', str(self._folder))}"
            )


class _Kept:
    """Whether a crew is kept, and which."""

    wanted = False
    crew: Crew | None = None


def crew_for(config: TrialConfig, place: Place) -> Crew:
    """The one that is kept, or a new one."""
    if _Kept.crew is None:
        crew = Crew(config, place, _Kept.wanted)
        if not _Kept.wanted:
            return crew
        _Kept.crew = crew
    return _Kept.crew


@contextmanager
def kept_crew() -> Iterator[None]:
    """Everything that is launched inside has one crew, which goes at the end."""
    _Kept.wanted = True
    try:
        yield
        if _Kept.crew is not None:
            _Kept.crew.finish()
    except StoppedAtOnce:
        raise
    except KeyboardInterrupt:  # of trials that were told to stop, or between rounds
        if _Kept.crew is not None:
            _Kept.crew.finish()
        raise
    except BaseException:
        if _Kept.crew is not None:
            _Kept.crew.dismiss()
        raise
    finally:
        _Kept.wanted, _Kept.crew = False, None


def executor_for(n_units: int, place: Place, options: LauncherOptions) -> Executor:
    """Where trials train; of a search, whose later rounds may have more units, in all workers."""
    return new_executor(place, options, None if _Kept.wanted else n_units)


def _writer(config: TrialConfig, place: Place) -> Writer:
    if config.tracking.uri == schema.NO_STORE:
        end_early()
        log.info("tracking.uri=none: to write it later, %s", command("sync", str(place.folder)))
        return NoWriter()
    uri = addresses.resolve_tracking_uri(config.tracking.uri)
    question, sweep = config.study.question, place.sweep["name"]
    patience = config.tracking.patience_seconds
    destination = Destination(uri, place.study, question, place.folder, sweep, patience)
    return Writer(destination, lambda line: log.warning("%s", line))


def in_a_line(lines: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    shown = "; ".join(lines[:MOST_SHOWN])
    return f"{shown}; and {len(lines) - MOST_SHOWN} more" if len(lines) > MOST_SHOWN else shown
