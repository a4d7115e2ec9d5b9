"""A study as it was measured and fitted: what every topic answers its question from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.caveats import Caveat
from analysis.fit.fit_result import FitResult, headline
from analysis.groups import select
from analysis.measure.model_sizes import Family, MeasuredGroup, families
from analysis.words import Units
from scaling.schema import BATCH_SIZES, LOSSES

Group = dict[str, Any]


@dataclass(kw_only=True, repr=False)
class Statistics:
    """What is known of groups. Group columns (`group_by`) stand in every frame, first.

    cells           target_loss, batch_size, lr, steps, outcome, n_seeds, n_diverged, last_step,
                    steps_lower, steps_upper (the evaluations around the crossing), compared (may be
                    the best of its batch size: see cells.compared)
    frontier        target_loss, batch_size, steps, examples, lr, outcome, lr_at_edge, n_seeds,
                    n_lrs, steps_low, steps_high, lr_low, lr_high (95 % intervals), steps_lower,
                    steps_upper (evaluations around the crossing, or the budget's end), lr_refined
                    (other tuned columns stand after lr in both, with name_at_edge in frontier)
    theory          target_loss, batch_size, lr_choice ("same_grid" | "continuous_lr"), steps, lr
    stability       batch_size, largest_stable_lr: the edge of mean-square stability
    exact_curves    batch_size, lr (the best one), step, exact_loss (expected), noise_floor: all
                    three empty where no theory holds (analysis.theory.trials.theory_of)
    fits            one FitResult per group and target, identified or not
    measured        of each group its cells, bootstrap draws, step times, size
    caveats         (group, what a reader has to know of it)
    """

    cells: pd.DataFrame = field(default_factory=pd.DataFrame)
    frontier: pd.DataFrame
    theory: pd.DataFrame = field(default_factory=pd.DataFrame)
    stability: pd.DataFrame = field(default_factory=pd.DataFrame)
    exact_curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    fits: list[FitResult]
    measured: list[MeasuredGroup] = field(default_factory=list)
    caveats: list[tuple[Group, Caveat | str]] = field(default_factory=list)


@dataclass(kw_only=True, repr=False)
class Study(Statistics):
    """The statistics of one study.

    tuned           what the frontier is minimised over, lr first
    n_bootstrap, seed
                    of every bootstrap
    about           schema.REPORTS: what the study asks for; LOSSES: no critical batch size
    flops_counted   how the FLOPs of an example were counted
    notes, norms    sentences on how trials were chosen, and on their normalisation
    """

    study: str
    trials: pd.DataFrame
    curves: pd.DataFrame
    group_by: list[str]
    targets: list[float]
    tuned: list[str] = field(default_factory=lambda: ["lr"])
    n_bootstrap: int = 0
    seed: int = 0
    about: str = BATCH_SIZES
    flops_counted: str = "not known"
    notes: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)

    @cached_property
    def families(self) -> list[Family]:
        """Groups that differ in model size alone, by size."""
        return families(self.measured)

    @cached_property
    def units(self) -> Units:
        return Units.of(self.trials)

    @property
    def groups(self) -> list[Group]:
        """What tells groups apart, besides batch size, lr and seed; one empty group if nothing."""
        groups: list[Group] = []
        for fit in self.fits:
            if fit.group not in groups:
                groups.append(fit.group)
        return groups or [{}]

    @property
    def is_about_losses(self) -> bool:
        """No critical batch size is asked for: there is one batch size, or the study says so."""
        return self.about == LOSSES or self.frontier["batch_size"].nunique() == 1

    def fits_of(self, group: Group) -> list[FitResult]:
        return [fit for fit in self.fits if fit.group == group]

    def headline(self, group: Group) -> FitResult | None:
        """The fit that the answer speaks of."""
        return headline(self.fits_of(group))

    def frontier_of(self, fit: FitResult) -> pd.DataFrame:
        return select(self.frontier, fit.group | {"target_loss": fit.target_loss})


def joined(parts: Sequence[Statistics]) -> dict[str, Any]:
    """The fields of the statistics of all groups together."""
    together: dict[str, Any] = {}
    for item in fields(Statistics):
        values = [getattr(part, item.name) for part in parts]
        frames = isinstance(values[0], pd.DataFrame)
        together[item.name] = join(values) if frames else [one for of in values for one in of]
    return together


def join(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows; an empty frame with the columns if there are none."""
    full = [frame for frame in frames if len(frame)]
    return pd.concat(full, ignore_index=True) if full else frames[0]
