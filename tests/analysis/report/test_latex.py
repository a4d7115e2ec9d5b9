"""LaTeX tables: what is escaped, how intervals stand, what a table of a study holds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import StudyResult
from analysis.fit.fitting import FitResult
from analysis.report.latex import escape, fit_cells, latex_tables, table, with_interval

_ESCAPED = re.compile(r"\\text[a-z]+\{\}|\\[{}$&#%_]")


@given(st.text())
def test_nothing_special_is_left(text: str) -> None:
    left = _ESCAPED.sub("", escape(text))
    assert not set(left) & set('\\{}$&#%_~^<>|"\n')


def test_escaped_names_read_back() -> None:
    assert escape("num_filters = 8 & 50%") == r"num\_filters = 8 \& 50\%"
    assert escape("a\\b\n{c}") == r"a\textbackslash{}b \{c\}"


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (204.2, 189.0, 214.0, r"204\,$^{+10}_{-15}$"),
        (0.04744, 0.04, 0.05, r"0.0474\,$^{+0.0026}_{-0.0074}$"),
        (13265.8, 13000.0, 14000.0, r"13\,300\,$^{+700}_{-300}$"),
        (5.0, 5.5, 6.0, r"5.00\,$^{+1.00}_{-0.00}$"),
        (1.0, None, None, "1.00"),
        (None, 128.0, None, r"$\geq$ 128"),
        (None, None, 128.0, r"$\leq$ 128"),
        (float("nan"), None, None, "--"),
    ],
)
def test_intervals(value: float | None, low: float | None, high: float | None, text: str) -> None:
    assert with_interval(value, low, high) == text


def test_a_bound_stands_for_what_is_not_identified() -> None:
    fit = FitResult({}, 0.1, at_least=256.0, min_examples=10.0)
    assert fit_cells(fit) == [r"$\geq$ 256", "--", "10.0"]


def test_tables_of_a_study(small_result: StudyResult) -> None:
    found = latex_tables(small_result)
    assert set(found) == {"fits", "frontier", "recommendations"}
    assert found["fits"].count(r"\\") == 1 + len(small_result.fits)
    assert found["frontier"].count(r"\\") == 1 + len(small_result.frontier)
    for text in found.values():
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len({line.count(" & ") for line in rows}) == 1
        assert text.count("{") == text.count("}")
        assert "nan" not in text
    assert r"\hline" in table(["a"], [["b"]], "r")
