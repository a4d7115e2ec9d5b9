"""Whether the curves went on long enough beyond their targets, as sentences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.caveats import Caveat
from analysis.measure.cells import SHORTEST_TAIL
from scaling.schema import REACHED

_WORTH_SAYING = 0.1  # share of trials
_STOPPED = (
    f"Trials that reached the target ended before {SHORTEST_TAIL:g} times that step: where "
    f"curves stop as soon as they touch it, steps are read too early"
)
_ONE_BY_ONE = (
    "Runs stop where they touch the target, so steps are the geometric mean of the single runs' "
    "crossings: they are read early by as much as noise lets a curve touch the target too soon"
)
_THEN_LOW = (
    " and the critical batch size comes out low (by 6 to 10 % with 8 seeds, by 30 % or more with "
    "one)"
)


def early_stop_caveats(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    frontier: pd.DataFrame,
    one_by_one: Sequence[float] = (),
) -> list[Caveat]:
    """What to say of best lrs whose trials touched their target and then hardly went on from it.

    A curve that ends where it first touches a target has nothing to pull it back with: the crossing
    is read too early. frontier: of the same group; other lrs did not win, so their curves may be
    short (those of a search are). one_by_one: targets at which each run was read alone.
    """
    last = curves[curves["loss"].notna()].groupby("run_id")["step"].max()
    then = _THEN_LOW if trials["batch_size"].nunique() > 1 else ""
    caveats = []
    for target, points in frontier[frontier["outcome"] == REACHED].groupby("target_loss"):
        best = trials.merge(points[["batch_size", "lr"]], on=["batch_size", "lr"])
        of_best = curves[curves["run_id"].isin(best["run_id"])]
        touch = (
            of_best[(of_best["loss"] <= target) & (of_best["step"] > 0)]
            .groupby("run_id")["step"]
            .min()
        )
        early = last.reindex(touch.index) < SHORTEST_TAIL * touch
        at = f"at target loss {target:.4g}"
        if target in one_by_one:
            caveats.append(Caveat(_ONE_BY_ONE + then, at, "answer", is_late=True))
        elif len(touch) and early.mean() >= _WORTH_SAYING:
            caveats.append(
                Caveat(_STOPPED + then, f"{100 * early.mean():.0f} % {at}", "answer", is_late=True)
            )
    return caveats[::-1]  # the easiest first
