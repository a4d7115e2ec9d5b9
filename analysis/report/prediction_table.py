"""The table of predictions as the pages show it: a block a prediction, what does not hold first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.report.predictions import HOLDS
from analysis.words import span_words

_MOST_DECIMALS = 8
_RELATIONS = {"equals": "", "at_most": "at most ", "at_least": "at least "}


@dataclass(frozen=True)
class Line:
    """One number of a prediction, as text; reason: why it does not hold."""

    value: str
    holds: str
    sound: bool
    reason: str
    predicted: str
    measured: str
    tolerance: str
    trials: int


@dataclass(frozen=True)
class Block:
    """One prediction: what it says, where it is derived, why it fails (if known), its numbers."""

    says: str
    source: str
    note: str
    quantity: str
    lines: list[Line]

    @property
    def n_broken(self) -> int:
        return sum(not line.sound for line in self.lines)

    @property
    def about(self) -> str:
        """Source, quantity, and how many trials its numbers are found from."""
        counts = [line.trials for line in self.lines]
        trials = f"{span_words(min(counts), max(counts))} trial{'s' if max(counts) != 1 else ''}"
        return "; ".join(filter(None, (self.source, self.quantity.replace("_", " "), trials)))

    @property
    def broken(self) -> str:
        """What does not hold, with how many of its numbers; "" if all do."""
        if not self.n_broken:
            return ""
        of = f" ({self.n_broken} of {len(self.lines)})" if len(self.lines) > 1 else ""
        return self.says + of


def blocks(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Rows of predictions.check_predictions, in their order, those of one prediction together."""
    lines_of: dict[tuple[str, str, str, str], list[Line]] = {}
    for row in rows:
        key = (row["says"], row["source"] or "", row["note"] or "", row["quantity"] or "")
        lines_of.setdefault(key, []).append(_line(row))
    return [Block(*key, lines=lines) for key, lines in lines_of.items()]


def _line(row: Mapping[str, Any]) -> Line:
    at = str(row["at"])
    if row["quantity"]:
        value = row["what"] or row["quantity"].replace("_", " ")
    else:
        value = f"{row['metric'].replace('_', ' ')}, {f'step {at}' if at.isdigit() else at}"
    predicted, measured = number_words(row["predicted"], row["measured"], row["standard_error"])
    return Line(
        value=value,
        holds=row["holds"],
        sound=row["holds"] == HOLDS,
        reason=row["reason"] or "",
        predicted=predicted and _RELATIONS[row["relation"]] + predicted,
        measured=measured,
        tolerance=row["allowed"],
        trials=row["n"],
    )


def number_words(
    predicted: float | None, measured: float | None, standard_error: float | None
) -> tuple[str, str]:
    """Both with the digits that the standard error leaves, else with six.

    >>> number_words(0.163348, 0.115106, 0.0077)
    ('0.1633', '0.1151 ± 0.0077')
    >>> number_words(3190.4, 3068.2, 246.1)
    ('3,190', '3,068 ± 246')
    """
    if standard_error is None or not 0 < standard_error < math.inf:
        return _plain(predicted), _plain(measured)
    decimals = max(0, 1 - math.floor(math.log10(standard_error)))
    if decimals > _MOST_DECIMALS:  # exact but for rounding
        return _plain(predicted), _plain(measured)

    def fixed(value: float | None) -> str:
        return f"{value:,.{decimals}f}" if _known(value) else ""

    # a bound such as 0.25 as it was written
    predicted_words = min(_plain(predicted), fixed(predicted), key=len)
    return predicted_words, f"{fixed(measured)} ± {fixed(standard_error)}"


def _known(value: float | None) -> bool:
    return value is not None and not pd.isna(value)


def _plain(value: float | None) -> str:
    return f"{value:.6g}" if _known(value) else ""
