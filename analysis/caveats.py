"""What a reader of a study's numbers has to know: one plain sentence each, equal ones folded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.groups import group_label, listed, their_name

_FINE_RATIO = 1.25  # in simulation, lr grids up to this ratio cost B_crit less than 5 %
NO_NORM = "Networks were not normalised."
ONE_LR = (
    "Each batch size has one lr, which is taken as its best: if it was not tuned, what looks "
    "like a critical batch size may be an effect of that lr"
)
_SAME_SPACING = 1.02  # of lrs, as a ratio of ratios
# Order in which sentences are shown: what the answer lacks, then what may have bent it.
_TOPICS = (
    "answer",
    "edges",
    "censored",
    "diverged",
    "seeds",
    "tuning",
    "shape",
    "other",
)


@dataclass(frozen=True)
class Caveat:
    """A sentence without its full stop; `where` (sizes, target) tells equal sentences apart."""

    sentence: str
    where: str = ""
    topic: str = "other"
    is_late: bool = False  # said of a group after all else


def fold(caveats: Iterable[tuple[Mapping[str, Any], Caveat | str]], n_groups: int) -> list[str]:
    """(group, caveat) in, sentences out: one for all groups that it is true of, naming them.

    If it is true of all of several groups, without a place, no group is named.
    """
    places_of: dict[tuple[int, str], dict[str, list[str]]] = {}
    for group, text in caveats:
        caveat = Caveat(text.rstrip(".")) if isinstance(text, str) else text
        key = (_TOPICS.index(caveat.topic), caveat.sentence)
        places = places_of.setdefault(key, {}).setdefault(group_label(group), [])
        if caveat.where and caveat.where not in places:
            places.append(caveat.where)
    ordered = sorted(places_of.items(), key=lambda item: item[0][0])
    return [_sentence(text, places, n_groups) for (_, text), places in ordered]


def _sentence(text: str, places: Mapping[str, Sequence[str]], n_groups: int) -> str:
    if n_groups == 1:
        at = "; ".join(place for of_group in places.values() for place in of_group)
        return f"{text}: {at}." if at else f"{text}."
    if any(places.values()):
        groups = [f"{label} ({'; '.join(at)})" if at else label for label, at in places.items()]
        return f"{text}: {'; '.join(groups)}."
    return f"{text}." if len(places) == n_groups else f"{text} ({listed(list(places))})."


def trial_caveats(
    cells: pd.DataFrame, exact: bool = False, of_final_losses: bool = False
) -> list[Caveat]:
    """Seeds, batch sizes, lr spacing and divergence of one group; cells of one of its targets.

    exact: theory is known. of_final_losses: the best lr was read between the tried ones.
    """
    caveats = []
    sizes, seeds = cells["batch_size"].nunique(), cells.loc[cells["compared"], "n_seeds"]
    n_lrs = cells.groupby("batch_size")["lr"].nunique()
    spacing = [_spacing_at_best(of_size) for _, of_size in cells.groupby("batch_size")]
    if sizes == 1:
        text = "There is only one batch size, so nothing can be said about scaling"
        caveats.append(Caveat(text, topic="answer"))
    if n_lrs.max() == 1 and sizes > 1:
        caveats.append(Caveat(ONE_LR, topic="tuning"))
    caveats += _seed_caveats(seeds, sizes, of_final_losses)
    if n_lrs.min() != n_lrs.max() and not _alike(spacing):
        text = (
            "Batch sizes were not tuned equally: the minimum over more trials is lower, so give "
            "each "
            "the same number of lrs"
        )
        caveats.append(Caveat(text, f"{n_lrs.min()} to {n_lrs.max()} lrs", "tuning"))
    ratio = max((r for r in spacing if r is not None), default=1.0)
    known = exact or of_final_losses  # exact values say what this grid costs
    if ratio > _FINE_RATIO and sizes > 1 and not known:
        text = (
            f"Tried lrs are a factor {ratio:.2f} apart: compared with a continuous lr, the "
            f"critical batch "
            "size comes out low (by 6 to 10 % at a factor 1.41, by 17 to 22 % at 2)"
        )
        caveats.append(Caveat(text, topic="tuning"))
    mixed = int(((cells["n_diverged"] > 0) & (cells["n_diverged"] < cells["n_seeds"])).sum())
    if mixed:
        text = "Cells in which only some seeds diverged count as diverged"
        caveats.append(Caveat(text, f"{mixed} of {len(cells)}", "diverged"))
    return caveats


def _seed_caveats(seeds: pd.Series, n_batch_sizes: int, of_final_losses: bool) -> list[Caveat]:
    caveats = []
    if seeds.max() == 1:
        text = "Each cell has one seed: "
        text += (
            "the least of several noisy losses is a little too low"
            if of_final_losses
            else "crossings of a single noisy curve scatter and can come early"
        )
        if n_batch_sizes > 1:
            text += ", and intervals come from the residuals of the fit"
        caveats.append(Caveat(text, topic="seeds"))
    elif seeds.min() < 3 and n_batch_sizes > 1:
        text = "Some cells have fewer than 3 seeds, so their intervals are approximate"
        caveats.append(Caveat(text, topic="seeds"))
    if seeds.min() != seeds.max():
        caveats.append(
            Caveat(
                "Cells have different numbers of seeds", f"{seeds.min()} to {seeds.max()}", "seeds"
            )
        )
    return caveats


def value_edge_caveats(frontier: pd.DataFrame) -> list[Caveat]:
    """Tuned columns other than lr whose best value lies at the end of what was tried."""
    caveats = []
    for column in frontier.columns:
        name = column.removesuffix("_at_edge")
        if name in (column, "lr") or name not in frontier:
            continue
        rows = frontier[frontier[column].astype(bool)].drop_duplicates("batch_size")
        if len(rows):
            text = f"The best {their_name(name)} is the smallest or largest that was tried"
            caveats.append(Caveat(text, size_list(rows), "edges"))
    return caveats


def norm_caveats(trials: pd.DataFrame) -> list[str]:
    """Which normalisation the trials had, and from where its statistics came."""
    if "model.norm" not in trials:
        return []
    sentences = []
    for norm, rows in trials.groupby("model.norm"):
        if norm != "batch":
            sentences.append(f"Networks were normalised by {norm}." if norm == "group" else NO_NORM)
            continue
        ghost = "model.ghost_batch_size" in rows and rows["model.ghost_batch_size"].notna().all()
        of = "ghost batches of a stated size" if ghost else "the whole batch"
        how = (
            "recomputed on training examples before each evaluation"
            if rows["evaluation.recompute_statistics"].all()
            else "moving averages, which lag behind and make large batches look slow"
        )
        end = "" if ghost else ", so that the loss itself depends on the batch size"
        sentences.append(f"Batch normalisation is over {of}{end}; its statistics are {how}.")
    return sentences


def _spacing_at_best(cells: pd.DataFrame) -> float | None:
    """Ratio of the best lr of a batch size to its nearest compared neighbours, the larger one.

    Of all neighbours the median where nothing reached the target; None with a single lr.
    """
    tried = cells[cells["compared"]].sort_values("lr").drop_duplicates("lr")
    lrs, steps = tried["lr"].to_numpy(float), tried["steps"].to_numpy(float)
    if len(lrs) < 2:
        return None
    ratios = lrs[1:] / lrs[:-1]
    if np.isnan(steps).all():
        return float(np.median(ratios))
    best = int(np.nanargmin(steps))
    return float(ratios[max(best - 1, 0) : best + 1].max())


def _alike(spacing: Sequence[float | None]) -> bool:
    """Every batch size has its best lr resolved as finely as the others: it may have taken more."""
    known = [ratio for ratio in spacing if ratio is not None]
    return len(known) == len(spacing) and max(known) < _SAME_SPACING * min(known)


def size_list(rows: pd.DataFrame) -> str:
    sizes = ", ".join(f"{size:,}" for size in rows["batch_size"])
    return f"batch size {sizes}" if len(rows) == 1 else f"batch sizes {sizes}"
