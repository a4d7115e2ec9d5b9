"""What sets studies apart besides their answers: params, targets, tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.groups import listed, their_name
from analysis.read.selection import question_params
from analysis.result import StudyResult
from analysis.topics.tuning import tuning_budget
from analysis.words import span_words


def differing_params(results: Sequence[StudyResult]) -> dict[str, list[str]]:
    """Params that are one value in each study and not the same in all; "none" where not given."""
    differing = {}
    frames = [result.trials for result in results]
    for name in dict.fromkeys(name for frame in frames for name in question_params(frame)):
        values = [
            sorted({value_text(v) for v in frame[name]}) if name in frame else ["none"]
            for frame in frames
        ]
        if all(len(of) == 1 for of in values) and len({of[0] for of in values}) > 1:
            differing[their_name(name)] = [of[0] for of in values]
    return differing


def questions(differing: dict[str, list[str]]) -> list[str]:
    """The params that studies differ in, without what follows from another.

    `optimizer.momentum` belongs to `optimizer.name`, and `model_size` to the task or model.
    """
    named = {name.rsplit(".", 1)[0] for name in differing if name.endswith(".name")}
    independent = [
        name
        for name in differing
        if name.endswith(".name") or name.rsplit(".", 1)[0] not in named or "." not in name
    ]
    derived = any(name.startswith(("model.", "task.")) for name in independent)
    return [name for name in independent if not (name == "model_size" and derived)]


def comparison_caveats(
    results: Sequence[StudyResult],
    open_ends: Sequence[str],
    common: bool,
    differing: dict[str, list[str]],
) -> list[str]:
    """What bends a comparison: other params, other targets, other tuning; one sentence each.

    open_ends: names of what has no critical batch size; common: whether targets are shared.
    """
    sentences = []
    params = questions(differing)
    if len(params) > 1:
        values = listed([f"{name} ({', '.join(differing[name])})" for name in params])
        sentences.append(
            f"The studies differ in {len(params)} params, so a difference cannot be attributed "
            f"to one of them: {values}."
        )
    if not common:
        sentences.append(
            "The studies have no target in common, so each is shown at its own target and "
            "without ratios; targets=[...] sets the same targets for all."
        )
    spent = {result.study: tuning_budget(result) for result in results}
    for column, what in (("n_lrs", "learning rates"), ("n_seeds", "seeds")):
        spans = {
            study: span_words(of[column].min(), of[column].max())
            for study, of in spent.items()
            if len(of)
        }
        if len(set(spans.values())) > 1:
            values = ", ".join(f"{study} {span}" for study, span in spans.items())
            sentences.append(
                f"The studies were not tuned equally; {what} per batch size: {values}."
            )
    if open_ends:
        sentences.append(
            "The critical batch size is not identified, so there is no ratio of it, for "
            f"{listed(list(dict.fromkeys(open_ends)))}."
        )
    return sentences


def value_text(value: Any) -> str:
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    return "none" if missing else str(value)
