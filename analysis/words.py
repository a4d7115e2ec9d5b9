"""Numbers as the report, the terminal and the note of a run show them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scaling.schema import EXAMPLE, UNIT, UNIT_NAME, UNITS_PER_EXAMPLE


def rounded(x: float | None) -> str:
    """Three significant digits without powers of ten: 13,300; 164; 0.0474. Empty if not known."""
    if x is None or pd.isna(x):
        return ""
    return f"{float(f'{x:.3g}'):,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def size_words(batch_size: float | None) -> str:
    """A batch size: whole from 100 on (1,024 is not 1,020), else three digits."""
    big = batch_size is not None and batch_size >= 100
    return f"{batch_size:,.0f}" if big else rounded(batch_size)


def short_number(x: float) -> str:
    """A short number for labels: 1,024; 25 k; 1.5 M; 0.047."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(x) >= size:
            return f"{x / (1e3 if unit == ' k' else size):.3g}{unit}"
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def between(low: float | None, high: float | None) -> str:
    """ "1.2 to 3.4", "at least 1.2", "at most 3.4" or nothing."""
    texts = rounded(low), rounded(high)
    if all(texts):
        return f"{texts[0]} to {texts[1]}"
    return f"at least {texts[0]}" if texts[0] else f"at most {texts[1]}" if texts[1] else ""


def span_words(low: float, high: float) -> str:
    """ "3" or "3 to 16" of whole numbers."""
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def bracketed(interval: str) -> str:
    return f" ({interval})" if interval else ""


def difference(estimate: float | None, exact: float | None) -> str:
    """ "+3 %": how far the estimate lies above the exact value."""
    if estimate is None or not exact:
        return ""
    percent = round(100 * (estimate / exact - 1))
    return f"{percent:+d}\N{NO-BREAK SPACE}%" if percent else "0\N{NO-BREAK SPACE}%"


def law_interval(law: Mapping[Any, Any]) -> str:
    """ "0.52 (0.40 to 0.63)": the exponent of a row of the laws."""
    digits = 2 if abs(law["exponent"]) >= 0.1 else 3
    low, high = law["exponent_low"], law["exponent_high"]
    text = f"{law['exponent']:.{digits}f}"
    if math.isfinite(low) and math.isfinite(high):
        text += f" ({low:.{digits}f} to {high:.{digits}f})"
    return text


def percent(value: float) -> str:
    """ "+12 %", "-3.4 %"; empty if not known."""
    if not math.isfinite(value):
        return ""
    return f"{value:+.{0 if abs(value) >= 10 else 1}f}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Units:
    """What one example is called, and how many units (tokens) it holds; none: unit is "".

    >>> units = Units("sequence", "tokens", 64)
    >>> units.of_size(31), units.axis("examples seen")
    ('31 sequences (1,984 tokens)', 'sequences of 64 tokens seen')
    """

    example: str = EXAMPLE
    unit: str = ""
    units_per_example: float = math.nan

    @classmethod
    def of(cls, trials: pd.DataFrame) -> Units:
        """Those that all trials agree on."""

        def agreed(*names: str) -> list[Any]:
            if not set(names) <= set(trials):
                return []
            rows = trials[list(names)].drop_duplicates()
            is_one = len(rows) == 1 and not rows.isna().to_numpy().any()
            return rows.iloc[0].tolist() if is_one else []

        named, counted = agreed(EXAMPLE), agreed(UNIT, UNITS_PER_EXAMPLE)
        names = [str(name) for name in (*named, *counted[:1])]
        if not all(re.fullmatch(UNIT_NAME, name) for name in names):  # anything may be in a store
            return cls()
        example = str(named[0]) if named else EXAMPLE
        return cls(example, str(counted[0]), float(counted[1])) if counted else cls(example)

    @property
    def examples(self) -> str:
        """The plural of what one example is called."""
        name = self.example
        if re.search("[^aeiou]y$", name):
            return f"{name[:-1]}ies"
        return f"{name}{'es' if re.search('(s|x|z|ch|sh)$', name) else 's'}"

    def in_units(self, batch_size: float | None) -> str:
        """ "1,984 tokens", of as many examples as are shown; empty without a unit, or where the
        number is not known."""
        if not self.unit or batch_size is None:
            return ""
        shown = float(size_words(batch_size).replace(",", ""))
        return f"{size_words(shown * self.units_per_example)} {self.unit}"

    def of_size(self, batch_size: float | None, more: str = "") -> str:
        """A batch size with what its examples are, in units, and with more to say in brackets."""
        named = "" if self == USUAL else f" {self.examples}"
        notes = [text for text in (self.in_units(batch_size), more) if text]
        return f"{size_words(batch_size)}{named}{bracketed('; '.join(notes))}"

    def axis(self, label: str) -> str:
        """A label of an axis that counts examples."""
        of = f" of {self.units_per_example:,.6g} {self.unit}" if self.unit else ""
        return re.sub(r"\bexamples\b", self.examples + of, label)

    @property
    def sentence(self) -> str:
        """What an example holds; empty without a unit."""
        if not self.unit:
            return ""
        article = "An" if self.example[:1] in "aeiouAEIOU" else "A"
        return f"{article} {self.example} is {self.units_per_example:,.6g} {self.unit}."


USUAL = Units()
