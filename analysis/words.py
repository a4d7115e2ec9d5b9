"""Numbers as the report, the terminal and the note of a run show them."""

from __future__ import annotations

import pandas as pd

from analysis.fit.fitting import FitResult


def rounded(x: float | None) -> str:
    """Three significant digits without powers of ten: 13,300; 164; 0.0474. Empty if not known."""
    if x is None or pd.isna(x):
        return ""
    return f"{float(f'{x:.3g}'):,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def size_words(batch_size: float | None) -> str:
    """A batch size: whole from 100 on (1,024 is not 1,020), else three digits."""
    big = batch_size is not None and batch_size >= 100
    return f"{batch_size:,.0f}" if big else rounded(batch_size)


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


def critical_words(fit: FitResult) -> str:
    """B_crit with its interval, or what is known instead."""
    if fit.critical_batch_size is not None:
        interval = between(*fit.ci95.get("critical_batch_size", (None, None)))
        approximate = ", approximate" if fit.approximate_ci and interval else ""
        return size_words(fit.critical_batch_size) + (
            f" (95 % interval {interval}{approximate})" if interval else ""
        )
    if fit.at_least is not None:
        return f"at least {size_words(fit.at_least)}"
    if fit.at_most is not None:
        return f"at most {size_words(fit.at_most)}"
    return "not known"


def difference(estimate: float | None, exact: float | None) -> str:
    """ "+3 %": how far the estimate lies above the exact value."""
    if estimate is None or not exact:
        return ""
    percent = round(100 * (estimate / exact - 1))
    return f"{percent:+d}\N{NO-BREAK SPACE}%" if percent else "0\N{NO-BREAK SPACE}%"
