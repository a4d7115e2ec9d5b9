"""What a reader of a fit or a law has to know: what is left out, not identified, its shape."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.caveats import Caveat, size_list
from analysis.fit.fit_result import FitResult
from analysis.fit.law_fit import FEWEST_FOR_CLAIM, FEWEST_POINTS
from analysis.fit.scaling_laws import OWN_TARGETS
from analysis.measure.model_sizes import Family
from scaling.schema import CENSORED, DIVERGED, LEFT_CENSORED, REACHED

_SAME_VALUE = 1.1  # critical batch sizes by two forms within this ratio are taken as equal


def fit_caveats(
    fit: FitResult, frontier: pd.DataFrame, of_final_losses: bool = False
) -> list[Caveat]:
    """Points left out, what is not identified and what the fit hides; frontier rows of the fit.

    of_final_losses: of runs with one loss each, not of curves.
    """
    at = f"at target loss {fit.target_loss:.4g}"
    several = frontier["batch_size"].nunique() > 1
    left_out = ", so the point is left out of the fit" if several else ""
    caveats = []
    longest, shortest = "within the trials' budget", "at or before the first evaluation"
    if of_final_losses:
        longest, shortest = "by the longest runs", "by the shortest runs already"
    for outcome, topic, why in (
        (CENSORED, "censored", f"The target was not reached {longest}"),
        (DIVERGED, "diverged", "Every lr diverged"),
        (LEFT_CENSORED, "censored", f"The target was met {shortest}"),
    ):
        failed = frontier[frontier["outcome"] == outcome]
        bounds = fit.bounded_batch_sizes + fit.upper_bounded_batch_sizes
        counted = failed["batch_size"].isin(bounds)
        side = "n upper" if outcome == LEFT_CENSORED else " lower"
        bound = f", so the point is in the fit as a{side} bound" if several else ""
        for rows, then in ((failed[counted], bound), (failed[~counted], left_out)):
            if len(rows):
                caveats.append(Caveat(why + then, f"{size_list(rows)} {at}", topic))
    if not several:
        return caveats
    rows = frontier[frontier["lr_at_edge"].astype(bool) & (frontier["outcome"] == REACHED)]
    counted = rows["batch_size"].isin(fit.upper_bounded_batch_sizes)
    for at_edge, then in (
        (rows[counted], "in the fit as an upper bound"),
        (rows[~counted], "left out"),
    ):
        if len(at_edge):
            text = (
                "The best lr is the smallest or largest that was tried, so the point is marked and "
                f"{then} (extend the lrs there)"
            )
            caveats.append(Caveat(text, f"{size_list(at_edge)} {at}", "edges"))
    if not fit.identified:
        text = "The critical batch size is not identified"
        caveats.append(Caveat(text, f"{_known(fit)}{at}, as {fit.reason}", "answer"))
    caveats += [Caveat(_capitalised(note), at, "shape") for note in fit.notes]
    return caveats + _form_caveats(fit, at)


def _known(fit: FitResult) -> str:
    for bound, words in ((fit.at_least, "at least"), (fit.at_most, "at most")):
        if bound is not None:
            return f"{words} {bound:,.0f} "
    return ""


def _form_caveats(fit: FitResult, at: str) -> list[Caveat]:
    """The shape of the curve that the data prefer, and whether the answer depends on it."""
    caveats = _knee_caveats(fit, at) if fit.identified else []
    if fit.preferred_form in (None, "hyperbola"):
        return caveats
    form = next(form for form in fit.forms if form["form"] == fit.preferred_form)
    value = form["critical_batch_size"]
    says = "which has no critical batch size" if value is None else f"B_crit {value:.3g} there"
    text = "The data prefer another shape than the hyperbola (AICc)"
    return [*caveats, Caveat(text, f"{fit.preferred_form} {at} ({says})", "shape")]


def _knee_caveats(fit: FitResult, at: str) -> list[Caveat]:
    """Whether the critical batch size depends on the form, by the knee whose sharpness is free."""
    knee = next(form for form in fit.forms if form["form"] == "knee")
    low, high = fit.ci95["critical_batch_size"]
    value, ours = knee["critical_batch_size"], fit.critical_batch_size
    if ours is None or value is None or knee["aicc"] is None:
        return []
    outside = (low is not None and value < low) or (high is not None and value > high)
    if not outside or max(value / ours, ours / value) < _SAME_VALUE:
        return []
    text = "The critical batch size depends on the form of the fit"
    by = f"{ours:.3g} by the hyperbola, {value:.3g} by a knee of free sharpness"
    return [Caveat(text, f"{by} (g = {knee['knee']:.2g}) {at}", "shape")]


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def law_caveats(families: Sequence[Family], laws: pd.DataFrame) -> list[str]:
    """Few sizes, and what could not enter."""
    sentences = []
    for family in families:
        n = len(set(family.sizes))
        if 1 < n < FEWEST_POINTS:
            sentences.append(
                f"There are {n} model sizes; a law in model size needs {FEWEST_POINTS}."
            )
        elif 1 < n < FEWEST_FOR_CLAIM:
            sentences.append(
                f"Laws in model size are fitted to {n} sizes; fewer than {FEWEST_FOR_CLAIM} cannot "
                "show whether a power law holds, so do not extrapolate them."
            )
    in_size = laws[(laws["x"] == "model_size") & (laws["y"] == "critical_batch_size")]
    if ((in_size["definition"] == OWN_TARGETS) & in_size["exponent"].notna()).any():
        sentences.append(
            "Model sizes have different targets: the law of the critical batch size in model size "
            "compares each size at its own target, so its exponent includes the target's effect."
        )
    for row in in_size[in_size["n_left_out"] > 0].to_dict("records"):
        at = f"At target loss {row['target_loss']:.4g}"
        if row["definition"] == OWN_TARGETS:
            at = "At their own targets"
        n_left_out, n = row["n_left_out"], row["n_left_out"] + row["n"]
        sentences.append(
            f"{at}, the critical batch size of {n_left_out} of {n} model sizes is not identified "
            "and is left out of its law."
        )
    return list(dict.fromkeys(sentences))
