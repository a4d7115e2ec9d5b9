"""Executors of this machine: in worker processes that live as long as the sweep, or in this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool

from pebble import ProcessExpired, ProcessPool

from scaling.store.writer import interrupts_blocked
from sweeps.run.trainer import Place, Trainer
from sweeps.run.units import Unit
from sweeps.run.worker import Ended, run_unit, start_worker, train_logged

MOST_POOLS = 20  # one after another
NO_NEW_WORKER_SECONDS = 0.2  # after this long a pool that is told to stop starts none


class HereExecutor:
    """One after another, in this process."""

    capacity = 1

    def __init__(self, place: Place) -> None:
        self._stopping = False
        self._trainer = Trainer(place, lambda: self._stopping)

    def start(self) -> None:
        return

    def submit(self, units: Sequence[Unit]) -> list[Future[Ended]]:
        return [self._train(unit) for unit in units]

    def _train(self, unit: Unit) -> Future[Ended]:
        future: Future[Ended] = Future()
        future.set_result(train_logged(self._trainer, unit))
        return future

    def poll(self) -> None:
        return

    def stop(self) -> None:
        self._stopping = True

    def close(self, at_once: bool = False) -> None:
        self._trainer.close()


class WorkerExecutor:
    """Processes of one thread each; one that dies or hangs takes only its unit along."""

    def __init__(self, n_workers: int, place: Place, timeout_seconds: float | None) -> None:
        self.capacity = n_workers
        self._timeout_seconds = timeout_seconds
        self._place = place
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["hydra", "sweeps.run.worker"])
        # without a lock: a worker may be killed at any moment, also while it holds one
        self._stop = self._context.RawValue("b", 0)
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        arguments = (self._place, self._stop)
        return ProcessPool(
            self.capacity, initializer=start_worker, initargs=arguments, context=self._context
        )

    def start(self) -> None:
        with interrupts_blocked():
            self._pool.schedule(os.getpid)

    def submit(self, units: Sequence[Unit]) -> list[Future[Ended]]:
        return [self._schedule(unit) for unit in units]

    def _schedule(self, unit: Unit) -> Future[Ended]:
        limit = self._timeout_seconds
        timeout = None if limit is None else limit * len(unit.trials)
        for _ in range(MOST_POOLS):
            try:
                return self._pool.schedule(run_unit, args=[unit], timeout=timeout)
            except RuntimeError:  # it broke just now
                self.poll()
        raise RuntimeError("worker processes are killed as soon as they are started")

    def poll(self) -> None:
        """A pool of which a worker was killed before it had work gives up: another one, then."""
        if not self._stop.value and not self._pool.active:
            self._pool.stop()
            self._pool.join()  # whatever its other workers do is ended with them
            self._pool = self._new_pool()

    def stop(self) -> None:
        self._stop.value = 1

    def close(self, at_once: bool = False) -> None:
        if at_once:
            self._pool.stop()
            time.sleep(NO_NEW_WORKER_SECONDS)
            for process in multiprocessing.active_children():
                if process.name.startswith("pebble"):
                    process.kill()
        else:
            self._pool.close()
        self._pool.join()


def end_of(future: Future[Ended], unit: Unit, timeout_seconds: float | None) -> Ended:
    """How a unit ended, also where its worker cannot say so."""
    try:
        return future.result()
    except ProcessExpired as expired:
        return Ended("lost", _death(expired.exitcode))
    except BrokenProcessPool:
        return Ended("lost", "a worker process was ended before it had begun")
    except FutureTimeout:
        return took_too_long(unit, timeout_seconds)
    except OSError as error:
        return Ended("record", f"{error.filename}: {error.strerror}")


def took_too_long(unit: Unit, timeout_seconds: float | None) -> Ended:
    limit = f"trial_timeout_seconds={timeout_seconds:g} for each of {len(unit.trials)} trials"
    return Ended("timeout", f"took longer than hydra.launcher.{limit}")


def _death(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"its worker process ended with exit code {exitcode}"
    name = signal.Signals(-exitcode).name
    reason = " (out of memory, or killed by hand)" if name == "SIGKILL" else ""
    return f"its worker process was ended by {name}{reason}"
