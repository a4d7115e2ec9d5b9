"""What a user says of a search for the frontier, and the learning rates that it may choose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_loader import ConfigLoader

from scaling.config import RuleConfig
from scaling.limits import ConfigError
from scaling.rules import NO_RULE
from scaling.trial import Trial
from sweeps.command_line.grid import combinations, parse, typed_value
from sweeps.search.observations import SearchOptions
from sweeps.search.tuned_keys import TunedKey, tuned_keys

DIGITS = 6  # of a learning rate
TUNE_FOR = (ALL, HARDEST, FINAL_LOSS) = ("all", "hardest", "final_loss")
WIDEST = 1e4  # the range of lr to either side of its base, where none is given


@dataclass(frozen=True)
class Lattice:
    """Learning rates base * ratio^index."""

    base: float
    ratio: float

    def lr(self, index: int) -> float:
        return float(f"{self.base * self.ratio**index:.{DIGITS}g}")

    def within(self, low: float, high: float) -> range:
        """The indices whose lrs lie in [low, high]."""
        first, last = (math.log(lr / self.base) / math.log(self.ratio) for lr in (low, high))
        return range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)


@dataclass(frozen=True)
class FrontierSettings:
    """The sweeper's configuration, see hydra_plugins.batch_scaling.FrontierConf."""

    lr_base: float | None
    lr_ratio: float
    lr_range: Sequence[float] | None
    stride: int
    cap_factor: float
    search_seeds: int
    give_up_after: int
    tune_for: str
    tuned: Sequence[str] = ("lr",)

    def check(self) -> None:
        """ConfigError for a value that no search can have."""
        key = "hydra.sweeper."
        rules = [
            ("lr_base", self.lr_base is None or _positive(self.lr_base), "must be above 0"),
            ("lr_ratio", _positive(self.lr_ratio) and self.lr_ratio > 1, "must be above 1"),
            ("stride", self.stride >= 1, "must be a whole number >= 1, best a power of 2"),
            ("cap_factor", self.cap_factor >= 1.5, "must be at least 1.5: the steps to a target"
             " are read from curves that continue beyond it"),
            ("search_seeds", self.search_seeds >= 1, "must be at least 1"),
            ("give_up_after", self.give_up_after >= 1, "must be at least 1"),
            ("tune_for", self.tune_for in TUNE_FOR, "must be all or hardest (target), or"
             " final_loss"),
        ]  # fmt: skip
        for name, is_right, allowed in rules:
            if not is_right:
                raise ConfigError(key + name, getattr(self, name), allowed)
        further = [name for name in self.tuned if name != "lr"]
        if self.tune_for == FINAL_LOSS and further:
            allowed = f"tune_for={FINAL_LOSS} tunes lr alone; give [lr] and sweep the others"
            raise ConfigError(key + "tuned", f"[{','.join(self.tuned)}]", allowed)
        if self.lr_range is not None:
            self._check_range(list(self.lr_range))

    def check_trials(self, trials: Sequence[Trial]) -> None:
        """ConfigError where they do not have what the search is for."""
        final = self.tune_for == FINAL_LOSS
        for trial in trials:
            refuse_moved_lr(trial.config.rule)
            if final and trial.ends_at_target:
                allowed = "requires study.report=final_losses: trials run to their budgets' ends"
                raise ConfigError("hydra.sweeper.tune_for", FINAL_LOSS, allowed)
            if not final and not trial.ends_at_target:
                allowed = f"a study of final losses is tuned for them, tune_for={FINAL_LOSS}"
                raise ConfigError("hydra.sweeper.tune_for", self.tune_for, allowed)
            if not final and not trial.targets:
                allowed = "a search requires a target: it compares the steps to it"
                raise ConfigError("targets", "[]", allowed)

    def _check_range(self, given: list[float]) -> None:
        key, shown = "hydra.sweeper.lr_range", str(given).replace(" ", "")
        if len(given) != 2 or not all(map(_positive, given)):
            raise ConfigError(key, shown, "give [lowest, highest], both above 0")
        if given[0] >= given[1]:
            what = "reversed" if given[0] > given[1] else "empty"
            raise ConfigError(key, shown, f"the range is {what}; give [lowest, highest]")

    def search(self, lattice: Lattice, seeds: tuple[int, ...]) -> SearchOptions:
        base = lattice.base
        low, high = self.lr_range or (base / WIDEST, base * WIDEST)
        allowed = lattice.within(low, high)
        if not allowed:
            shown = f"[{low:g},{high:g}]"
            why = f"no lr of the lattice {base:g} * {self.lr_ratio:g}^k lies in it; widen it"
            raise ConfigError("hydra.sweeper.lr_range", shown, why)
        return SearchOptions(
            lowest=allowed[0],
            highest=allowed[-1],
            start=min(max(0, allowed[0]), allowed[-1]),
            seeds=seeds,
            n_search_seeds=min(self.search_seeds, len(seeds)),
            cap_factor=self.cap_factor,
            stride=self.stride,
            give_up_after=self.give_up_after,
        )


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


@dataclass(frozen=True)
class Swept:
    """cells: overrides of each. seeds: all of them. tuned: what the search tunes beside lr."""

    cells: list[list[str]]
    seeds: tuple[int, ...]
    tuned: tuple[TunedKey, ...] = ()


def split_swept(
    given: Sequence[str], loader: ConfigLoader | None = None, tuned: Sequence[str] = ()
) -> Swept:
    """What is swept, without lr, seed and what is tuned; ConfigError for an lr that is swept."""
    overrides = {}
    for override in parse(given, loader):
        overrides[override.key_or_group] = override  # the command line's after the study's
    lr, seed = overrides.get("lr"), overrides.pop("seed", None)
    if lr is not None and lr.is_sweep_override():
        allowed = (
            "hydra/sweeper=frontier chooses lr: give one value to begin at, or "
            "hydra.sweeper.lr_range=[lowest,highest]"
        )
        raise ConfigError("lr", typed_value(lr), allowed)
    overrides.pop("lr", None)
    seeds = ["0"]
    if seed is not None:
        seeds = [one[0].partition("=")[2] for one in combinations([seed])]
        if not seeds or not all(one.isdigit() for one in seeds):
            raise ConfigError(
                "seed", typed_value(seed), "give whole numbers, such as seed=range(0,8)"
            )
    unique = tuple(dict.fromkeys(int(one) for one in seeds))
    keys = tuned_keys(tuned, overrides)
    return Swept(combinations(list(overrides.values())), unique, keys)


def refuse_moved_lr(rule: RuleConfig) -> None:
    """ConfigError for a rule that gives the lr which the search is to find."""
    if rule.name not in (NO_RULE, "constant"):
        allowed = (
            "a search finds the lr of each batch size; leave the rule out, or give lr and "
            "batch_size in a grid (hydra/sweeper=grid)"
        )
        raise ConfigError("rule", rule.name, allowed)
    if rule.weight_decay != "keep" and rule.name != NO_RULE:
        allowed = "requires an lr that follows from the batch size, and a search finds it; keep"
        raise ConfigError("rule.weight_decay", rule.weight_decay, allowed)
