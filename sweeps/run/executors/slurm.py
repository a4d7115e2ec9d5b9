"""Units trained as array tasks of Slurm, through submitit. https://github.com/facebookincubator/submitit

Tasks write their own journals into the record folder, which all machines share, and say in a file
of their own how each unit ended; Slurm is asked only what became of a task that cannot say.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra_plugins.batch_scaling._options import SlurmOptions

from scaling.commands import FORM
from scaling.store.writer import interrupts_blocked
from sweeps.run.executors.slurm_queue import (
    SlurmError,
    TaskState,
    ask_to_save,
    cancel,
    job_name,
    one_line,
    read_states,
)
from sweeps.run.executors.slurm_task import Answers, Task, Work, read_answers
from sweeps.run.trainer import Place
from sweeps.run.units import Unit, share_out
from sweeps.run.worker import Ended

log = logging.getLogger(__name__)
STOP_AGAIN_SECONDS = 3.0  # a task that just started has not heard the first signal
PROGRESS_SECONDS = 10.0  # what tasks do is said this often at most
READ_SECONDS = 0.5  # how often tasks' files are read


@dataclass(frozen=True)
class _ArrayTask:
    name: str  # as Slurm has it: <array>_<number>
    answers: Path
    log: Path
    units: list[Unit]
    futures: list[Future[Ended]]

    @property
    def left(self) -> list[int]:
        return [number for number, future in enumerate(self.futures) if not future.done()]


class SlurmExecutor:
    """Takes all units at once and shares them out to at most `max_tasks` array tasks."""

    capacity = sys.maxsize

    def __init__(
        self, place: Place, options: SlurmOptions, stack_size: int, timeout_seconds: float | None
    ) -> None:
        self._place, self._options = place, options
        self._stack_size, self._timeout_seconds = stack_size, timeout_seconds
        self._folder = place.folder / "slurm" / place.sweep["name"]
        self._tasks: dict[str, _ArrayTask] = {}
        self._stopping = False
        self._asked_at = self._read_at = self._stopped_at = self._said_at = float("-inf")
        self._last_said = ""

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def submit(self, units: Sequence[Unit]) -> list[Future[Ended]]:
        """SlurmError with sbatch's own words if it refuses."""
        futures: dict[int, Future[Ended]] = {id(unit): Future() for unit in units}
        stamp, works = time.time_ns(), []
        for number, share in enumerate(share_out(units, self._options.max_tasks)):
            answers = self._folder / f"{stamp}-{number}.said"
            answers.touch()  # by this machine: it would not see at once what another one made
            size, seconds = self._stack_size, self._timeout_seconds
            works.append(Work(self._place, share, size, seconds, answers))
        for work, job in zip(works, self._submit([Task(work) for work in works]), strict=True):
            its = [futures[id(unit)] for unit in work.units]
            self._tasks[job.job_id] = _ArrayTask(
                job.job_id, work.answers, job.paths.stderr, work.units, its
            )
        array, n = next(reversed(self._tasks)).partition("_")[0], len(works)
        log.info(
            "Slurm job %s: %d stacks in %d tasks; logs in %s", array, len(units), n, self._folder
        )
        return list(futures.values())

    def _submit(self, tasks: list[Task]) -> list:
        import submitit
        from submitit.core.utils import FailedJobError

        logging.getLogger("submitit").setLevel(logging.ERROR)
        executor = submitit.SlurmExecutor(self._folder)
        name = job_name(self._place.folder)
        try:
            executor.update_parameters(**sbatch_parameters(self._options, name, len(tasks)))
            hushed = redirect_stderr(io.StringIO())  # it prints what it raises too
            with interrupts_blocked(), hushed, executor.batch():
                return [executor.submit(task) for task in tasks]
        except FailedJobError as error:
            raise SlurmError(f"{self._asked()}: sbatch: {one_line(str(error))}") from None

    def _asked(self) -> str:
        """The options that sbatch may have refused."""
        named = ("partition", "account", "qos", "time_minutes", "memory_gb", "cpus", "gpus")
        given = [f"{key}={getattr(self._options, key)}" for key in named]
        return "hydra.launcher.slurm: " + " ".join(g for g in given if not g.endswith("=None"))

    def poll(self) -> None:
        now = time.monotonic()
        if now - self._read_at >= READ_SECONDS:
            self._read_at = now
            for task in list(self._tasks.values()):
                self._resolve(task, read_answers(task.answers))
        if self._stopping and now - self._stopped_at >= STOP_AGAIN_SECONDS:
            self._stopped_at = now
            self._tell("it cannot be told to stop", lambda: ask_to_save(self._tasks))
        often = min(self._options.poll_seconds, 1.0) if self._stopping else None
        if self._tasks and now - self._asked_at >= (often or self._options.poll_seconds):
            self._asked_at = now
            self._tell("what its tasks do is not known", self._ask)

    def _tell(self, otherwise: str, action: Callable[[], None]) -> None:
        """A controller that is away for a while changes nothing for tasks that run."""
        try:
            action()
        except SlurmError as error:
            self._say(f"Slurm does not answer ({error}): {otherwise}; trying again")

    def _ask(self) -> None:
        states = read_states(self._tasks)
        for name, state in states.items():
            if state.ended:
                self._end(self._tasks[name], state)
        pending = [state for state in states.values() if state.state == "PENDING"]
        waiting = Counter(state.reason for state in pending if state.reason != "None")
        running = sum(state.state == "RUNNING" for state in states.values())
        if waiting:
            why = ", ".join(f"{n} {reason}" for reason, n in waiting.items())
            self._say(f"Slurm: {running} tasks run, {waiting.total()} wait ({why})")

    def _say(self, text: str) -> None:
        now = time.monotonic()
        if text != self._last_said and now - self._said_at >= PROGRESS_SECONDS:
            self._said_at, self._last_said = now, text
            log.info("%s", text)

    def _resolve(self, task: _ArrayTask, answers: Answers) -> None:
        """Pass on how units ended."""
        for number in task.left:
            if number in answers.ended:
                task.futures[number].set_result(answers.ended[number])
        if not task.left:
            self._tasks.pop(task.name, None)

    def _end(self, task: _ArrayTask, state: TaskState) -> None:
        """Its last words first, then what follows from Slurm's state for the units it left."""
        answers = read_answers(task.answers)
        self._resolve(task, answers)
        kind, text = end_of_task(task.name, state, answers, self._options, last_words(task.log))
        begun = answers.begun - set(answers.ended)
        any_begun = bool(begun) or bool(answers.ended)
        for number in task.left:
            went = number in begun or not any_begun or kind == "cancelled"
            task.futures[number].set_result(Ended(kind, text) if went else Ended("unbegun"))
        self._tasks.pop(task.name, None)
        with suppress(SlurmError):  # should Slurm mean to start it again: others do its work
            cancel([task.name])

    def stop(self) -> None:
        self._stopping = True  # `poll` does it: this may be a signal's handler

    def close(self, at_once: bool = False) -> None:
        if at_once:
            with suppress(SlurmError):  # the next sweep ends what this one cannot
                cancel(self._tasks)
            return
        for path in self._folder.glob("*.pkl"):  # what tasks got; none may start again
            path.unlink(missing_ok=True)


def sbatch_parameters(options: SlurmOptions, name: str, n_tasks: int) -> dict[str, Any]:
    """Those of submitit.SlurmExecutor for an array of n_tasks."""
    memory = None if options.memory_gb is None else f"{round(options.memory_gb * 1024)}M"
    safe_path = ["export PYTHONSAFEPATH=1"] if FORM in os.environ else []  # as the console script
    return {
        "job_name": name,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "time": options.time_minutes,
        "mem": memory,
        "cpus_per_task": options.cpus,
        "ntasks_per_node": 1,
        "gres": f"gpu:{options.gpus}" if options.gpus else None,
        "signal_delay_s": options.grace_seconds,
        "array_parallelism": options.parallel_tasks or n_tasks,
        "setup": [*safe_path, *options.setup] or None,
        "wckey": None,
        "additional_parameters": {"requeue": True, **options.extra},
    }


def end_of_task(
    name: str, state: TaskState, answers: Answers, options: SlurmOptions, words: str
) -> tuple[str, str]:
    """Kind and text of the `Ended` of the units that a task left. words: the last of its log."""
    task, on = f"its Slurm task {name}", f" on node {state.node}" if state.node else ""
    limit = f"hydra.launcher.slurm.time_minutes={options.time_minutes}"
    if state.state == "TIMEOUT" or answers.paused == "SIGUSR2":
        return "paused", f"{task} reached its time limit ({limit})"
    if state.state == "CANCELLED":
        return "cancelled", f"{task} was cancelled (scancel, by the user or an administrator)"
    if state.state == "PREEMPTED":
        return "paused", f"{task} was preempted{on}"
    if answers.paused is not None:
        return "paused", f"{task} was told to stop by {answers.paused}{on}"
    if state.state == "OUT_OF_MEMORY":
        memory = f"hydra.launcher.slurm.memory_gb={options.memory_gb}"
        return "lost", f"{task} ran out of memory ({memory})"
    if state.state in ("NODE_FAIL", "BOOT_FAIL"):
        return "lost", f"{task} lost its node {state.node}"
    if state.state == "FORGOTTEN":
        return "lost", f"{task} is no longer known to Slurm"
    reason = f", {state.reason}" if state.reason not in ("", "None") else ""
    return "lost", f"{task} ended{on} ({state.state}{reason}){words}"


def last_words(path: Path) -> str:
    """The last line that a task printed as an error, for one that could not say more."""
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:  # it never came to run
        return ""
    return f": {lines[-1].strip()[:300]} (log: {path})" if lines else ""
