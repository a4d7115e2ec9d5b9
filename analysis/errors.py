"""The one exception that a user of the analysis can cause."""

from __future__ import annotations

import re


class AnalysisError(Exception):
    """One line for the user: what happened, which key, what is allowed, what to do next."""


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"\s+", " ", lines[0])[:200]
