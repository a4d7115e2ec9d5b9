"""Numbers as the report, the terminal and the note of a run show them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd


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
