"""What the answer stands on: tuning budget, seeds, censoring, edges and misfit, in numbers."""

from __future__ import annotations

from analysis.groups import listed
from analysis.result import StudyResult
from analysis.words import span_words
from scaling.schema import CENSORED, DIVERGED, LEFT_CENSORED, LOSSES


def trust_facts(result: StudyResult) -> dict[str, str]:
    """Topic -> a short statement in numbers; what is not known is absent."""
    facts = {"Edges": _edges(result), "Censoring": _censoring(result), "Seeds": _seeds(result)}
    facts |= {"Tuning": _tuning(result)}
    if result.about != LOSSES:
        facts |= {"Misfit": _misfit(result)}
    return {topic: text for topic, text in facts.items() if text}


def _edges(result: StudyResult) -> str:
    points = result.frontier[result.frontier["lr"].notna()]
    several = points[points["n_lrs"] > 1]
    n = int(several["lr_at_edge"].astype(bool).sum())
    if several.empty:
        return "one learning rate per batch size: not tuned" if len(points) else ""
    if not n:
        return "no best learning rate lies at the edge of its grid"
    return f"{n} of {len(several)} best learning rates lie at the edge of their grid"


def _censoring(result: StudyResult) -> str:
    outcome = result.frontier["outcome"]
    words = {
        CENSORED: "ran out of budget",
        LEFT_CENSORED: "met it at or before the first evaluation",
        DIVERGED: "diverged",
    }
    counts = {what: int((outcome == name).sum()) for name, what in words.items()}
    if not any(counts.values()):
        return "every batch size reached every target"
    parts = [f"{n} {what}" for what, n in counts.items() if n]
    return f"of {len(outcome)} pairs of batch size and target, {listed(parts)}"


def _seeds(result: StudyResult) -> str:
    cells = result.cells
    if "n_seeds" not in cells or cells["n_seeds"].isna().all():
        return ""
    seeds = cells.loc[cells["compared"], "n_seeds"].dropna()
    text = f"{span_words(seeds.min(), seeds.max())} per cell"
    n_few = int((~cells["compared"]).groupby(cells["target_loss"]).sum().max())
    return f"{text}; {n_few} cells tried with fewer are not compared" if n_few else text


def _tuning(result: StudyResult) -> str:
    spent = result.frames["tuning_budget"]
    if spent.empty or spent["n_lrs"].max() == 0:  # a table without lrs does not say
        return ""
    lrs = span_words(spent["n_lrs"].min(), spent["n_lrs"].max())
    n = span_words(spent["n_trials"].min(), spent["n_trials"].max())
    text = f"{lrs} learning rate{'' if lrs == '1' else 's'} and {n} trial{'' if n == '1' else 's'} "
    text += "per batch size"
    steps = {int(b): int(of["steps"].sum()) for b, of in spent.groupby("batch_size")}  # type: ignore[arg-type]
    most, least = max(steps, key=lambda b: steps[b]), min(steps, key=lambda b: steps[b])
    if most == least:
        return f"{text}, {sum(steps.values()):,} steps in all"
    return (
        f"{text}; most steps were spent on batch size {most:,} ({steps[most]:,}), fewest on "
        f"{least:,} ({steps[least]:,})"
    )


def _misfit(result: StudyResult) -> str:
    rmse = [fit.rmse_log_steps for fit in result.fits if fit.rmse_log_steps is not None]
    if not rmse:
        return ""
    low, high = (f"{100 * value:.1f}" for value in (min(rmse), max(rmse)))
    amount = f"{low} %" if low == high else f"{low} to {high} %"
    return f"the fitted curve misses the measured steps by {amount} (root mean square)"
