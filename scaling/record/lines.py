"""What each line of a journal must hold: somebody may have changed it, or sent it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from scaling.result import TrialResult

Check = Callable[[Any], bool]
LARGEST_STEP = 2**53  # what every reader of JSON holds exactly
STATUSES = ("FINISHED", "FAILED", "KILLED")


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_STEP


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_params(value: Any) -> bool:
    return isinstance(value, dict) and is_whole(value.get("batch_size"))


def _is_sweep(value: Any) -> bool:
    return isinstance(value, dict) and is_text(value.get("name")) and _is_texts(value.get("tags"))


NEEDED: dict[str, dict[str, Check]] = {  # record -> field -> what it must be
    "journal": {
        "format": is_whole,
        "study": is_text,
        "sweep": _is_sweep,
        "host": is_text,
        "pid": is_whole,
        "process_started": is_number,
    },
    "trial": {"trial": is_whole, "trial_id": is_text, "params": _is_params, "time": is_number},
    "evaluation": {"step": is_whole, "time": is_number},
    "picture": {"trial": is_whole, "step": is_whole, "path": is_text, "time": is_number},
    "model": {"trial": is_whole, "kind": is_text, "path": is_text},
    "outcome": {"trial": is_whole, "time": is_number},
    "failure": {"trial": is_whole, "error": is_text, "log": is_text, "time": is_number},
    "notice": {"text": is_text},
    "sweep": {"tags": _is_texts, "files": _is_texts, "time": is_number},
    "end": {"status": STATUSES.__contains__},
}
MAY_HAVE: dict[str, dict[str, Check]] = {
    "trial": {
        "turn": is_whole,
        "name": is_text,
        "tags": _is_texts,
        "config": is_text,
        "files": _is_texts,
    },
}
FOR_A_STORE: dict[str, dict[str, Check]] = {  # what a run in a store is made from
    "trial": {"name": is_text, "tags": _is_texts, "config": is_text},
}


def check_line(line: Mapping[str, Any], needed: Mapping[str, Mapping[str, Check]] = NEEDED) -> None:
    """ValueError, with the reason, for a line that lacks a field or has one of another kind.

    Records of a kind that this version does not know pass.
    """
    kind = line.get("record")
    if not isinstance(kind, str):
        raise ValueError("it does not name its record")
    if kind == "journal" and is_whole(line.get("format")) and line["format"] > 3:
        return  # of a later version, which is said instead
    for key, is_good in needed.get(kind, {}).items():
        if key not in line:
            raise ValueError(f"{key} is missing")
        if not is_good(line[key]):
            raise ValueError(f"{key} is of the wrong type")
    for key, is_good in MAY_HAVE.get(kind, {}).items():
        if key in line and not is_good(line[key]):
            raise ValueError(f"{key} is of the wrong type")
    if kind == "evaluation":
        _check_evaluation(line)
    if kind == "outcome":
        _check_outcome(line)


def _check_evaluation(line: Mapping[str, Any]) -> None:
    trials = line.get("trials")
    if not isinstance(trials, list) or not all(map(is_whole, trials)):
        raise ValueError("trials is missing or of the wrong type")
    metrics = line.get("metrics", {})
    if not isinstance(metrics, dict):
        raise ValueError("metrics is of the wrong type")
    _check_column("loss", line.get("loss"), len(trials), gaps=False)
    columns = {key: line[key] for key in ("train_loss", "lr") if key in line}
    for key, column in {**columns, **metrics}.items():
        _check_column(key, column, len(trials), gaps=True)


def _check_column(key: str, column: Any, n: int, gaps: bool) -> None:
    if not isinstance(column, list) or len(column) != n:
        raise ValueError(f"{key} is not a list of {n} numbers")
    for value in column:
        if not (is_number(value) or (gaps and value is None)):
            raise ValueError(f"{key} is not a list of {n} numbers")


def _check_outcome(line: Mapping[str, Any]) -> None:
    try:
        result = TrialResult.from_line(dict(line))
    except (KeyError, TypeError, ValueError):
        raise ValueError("a field of the outcome is missing or of the wrong type") from None
    diverged, seconds = result.diverged_step, result.step_seconds
    good = [
        is_text(result.outcome),
        is_whole(result.last_step),
        is_number(result.last_loss),
        is_number(result.seconds),
        diverged is None or is_whole(diverged),
        seconds is None or is_number(seconds),
        result.not_finite is None or is_text(result.not_finite),
        all(is_number(key) and is_text(value) for key, value in result.outcomes.items()),
        all(is_number(key) and is_number(v) for key, v in result.steps_to_target.items()),
    ]
    if not all(good):
        raise ValueError("a field of the outcome is of the wrong type")
