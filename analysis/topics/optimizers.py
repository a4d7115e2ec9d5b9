"""How do optimizers compare? The ratio of their critical batch sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.errors import AnalysisError
from analysis.fit.fit_result import FitResult
from analysis.groups import group_label
from analysis.study import Study
from analysis.topics.topic import Finding, Frames, Topic

ORDER = (  # the plainest first
    *("sgd", "sgdw", "momentum", "momentumw", "nesterov", "rmsprop", "rmspropw"),
    *("adam", "adamw", "preconditioned", "custom"),
)
_95 = 1.96


def critical_batch_size_ratio(study: Study, frames: Frames) -> Sequence[Finding]:
    """B_crit of every other optimizer over that of the plainest one (ORDER; then those that others
    name, by their names), by target.

    standard_error and interval: of the two fits' bootstraps in log B_crit, which are independent;
    predicted: the ratio of the exact frontiers, continuous lr. Raises AnalysisError where the
    trials are of one optimizer, or the plainest has several settings.
    """
    targets = sorted({fit.target_loss for fit in study.fits}, reverse=True)
    findings: list[Finding] = []
    for target in targets:
        fits = [fit for fit in study.fits if fit.target_loss == target]
        names = [_optimizer(fit) for fit in fits]
        least = min(names, key=_plainness) if names else ""
        if len(set(names)) < 2 or names.count(least) > 1:
            raise AnalysisError(
                "critical_batch_size_ratio: needs trials of several optimizers, and one setting of "
                f"the plainest of them ({least or 'none'})"
            )
        reference = fits[names.index(least)]
        findings += [_ratio(fit, reference) for fit in fits if fit is not reference]
    return findings


def _plainness(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER)), name


def _optimizer(fit: FitResult) -> str:
    """ORDER[0] where the trials have one optimizer, which is then no part of the group."""
    return str(fit.group.get("optimizer.name", ORDER[0]))


def _ratio(fit: FitResult, reference: FitResult) -> Finding:
    what = f"{group_label(fit.group)} / {_optimizer(reference)}, target {fit.target_loss:.4g}"
    ours, theirs = fit.critical_batch_size, reference.critical_batch_size
    exact = [(each.exact or {}).get("continuous_lr") for each in (fit, reference)]
    predicted = exact[0] / exact[1] if exact[0] and exact[1] else None
    if ours is None or theirs is None:
        unknown = fit if ours is None else reference
        reason = f"{group_label(unknown.group)}: not identified, {unknown.reason}"
        low = fit.at_least / theirs if theirs and fit.at_least else None
        return Finding(what, None, low=low, predicted=predicted, reason=reason)
    spread = float(np.sqrt(_log_variance(fit) + _log_variance(reference)))
    value = ours / theirs
    return Finding(
        what=what,
        value=value,
        standard_error=value * spread,
        low=value * float(np.exp(-_95 * spread)),
        high=value * float(np.exp(_95 * spread)),
        predicted=predicted,
    )


def _log_variance(fit: FitResult) -> float:
    """Of log B_crit: from its 95 % interval, an open end as far off as the other."""
    assert fit.critical_batch_size is not None
    ends = [end for end in fit.ci95.get("critical_batch_size", (None, None)) if end]
    widths = [abs(np.log(end / fit.critical_batch_size)) for end in ends]
    return float(np.mean(widths) / _95) ** 2 if widths else float("inf")


TOPIC = Topic("optimizers", quantities={"critical_batch_size_ratio": critical_batch_size_ratio})
