"""The options of our sweepers and launchers: types, defaults, limits, and what --help says of each.

Every Hydra application of this environment imports this module, so it imports nothing of ours. Its
name begins with an underscore because Hydra's scan for plugins would execute it a second time, and
classes of two modules are not the same.
"""

# ruff: noqa: RUF009 (each call makes a field)
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

PLUGIN = "hydra_plugins.batch_scaling"


def option(default: Any, comment: str, least: float | None = None) -> Any:
    """A field with the comment of --help and the least value that it may have."""
    metadata = {"comment": comment, "least": least}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def below_limits(options: Any) -> Iterator[tuple[str, Any, str]]:
    """Name, value and what is allowed, of every option below its least value."""
    for one in fields(options):
        value, least = getattr(options, one.name), one.metadata.get("least")
        if least is not None and value is not None and not value >= least:
            yield one.name, value, f"must be at least {least:g}"


@dataclass
class GridOptions:
    """All combinations of the swept values."""

    _target_: str = f"{PLUGIN}.GridSweeper"
    max_batch_size: int | None = option(None, "jobs per launch; null: all of them", least=1)
    params: dict[str, str] | None = option(None, "what a study sweeps; {lr: '0.1,0.2'}")


@dataclass
class FrontierOptions:
    """Searches the best lr of every cell. Everything swept but lr, seed and what is tuned makes the
    cells."""

    _target_: str = f"{PLUGIN}.FrontierSweeper"
    lr_base: float | None = option(
        None, "learning rates are base * ratio^k; null: the trial's lr, where the search begins"
    )
    lr_ratio: float = option(1.09, "between neighbouring learning rates")
    lr_range: list[float] | None = option(
        None, "[lowest, highest]; null: 10,000 times to either side of the base"
    )
    stride: int = option(8, "of the first pass over the range, in steps of the ratio", least=1)
    cap_factor: float = option(
        2.0, "trials stop at this many times the fewest steps known in their cell"
    )
    search_seeds: int = option(
        1, "how many seeds search; all are trained at the best lr and beside it", least=1
    )
    give_up_after: int = option(
        16, "lrs of the first pass, the nearest to the base; so many in vain end a search", least=1
    )
    tune_for: str = option(
        "all", "targets that the search is for: all, or the hardest only; or final_loss"
    )
    tuned: list[str] = option(
        ["lr"], "what is tuned; of the others the values that are swept are tried"
    )
    max_batch_size: int | None = option(None, "not used: a round of the search is one launch")
    params: dict[str, str] | None = option(None, "what a study sweeps; {batch_size: '1,4,16'}")


@dataclass
class SlurmOptions:
    """What is asked of Slurm for each array task; null: the cluster's default."""

    partition: str | None = option(None, "")
    account: str | None = option(None, "")
    qos: str | None = option(None, "")
    time_minutes: int = option(60, "a task that reaches its limit is saved and resumed", least=1)
    memory_gb: float | None = option(None, "", least=0.1)
    cpus: int = option(1, "", least=1)
    gpus: int = option(0, "", least=0)
    max_tasks: int = option(16, "most array tasks that share the stacks", least=1)
    parallel_tasks: int | None = option(None, "of these at once; null: all", least=1)
    grace_seconds: int = option(60, "a task is told to save this long before its limit", least=1)
    poll_seconds: float = option(5.0, "how often Slurm is asked", least=0.1)
    setup: list[str] = option([], "shell lines before the training")
    extra: dict[str, Any] = option({}, "other options of sbatch by their long names")


@dataclass
class StackedOptions:
    """Trains trials of equal shapes in stacks, in worker processes or in tasks of Slurm."""

    _target_: str = f"{PLUGIN}.StackedLauncher"
    stack_size: int = option(
        1024, "most trials that train together; bounds memory, changes no number", least=1
    )
    workers: Any = option("auto", "processes of one thread each; auto: one a core; 0: this process")
    trial_timeout_seconds: float | None = option(
        None, "a trial that takes longer fails (a stack: times its trials); null: no limit"
    )
    retries: int = option(
        1, "how often a trial whose worker died or took too long is resumed", least=0
    )
    fail_fast: bool = option(False, "stop at the first trial that fails")
    executor: str = option("local", "where the stacks train: local or slurm")
    slurm: SlurmOptions = field(default_factory=SlurmOptions)
