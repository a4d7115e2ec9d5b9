"""The one exception that a user of the analysis can cause."""

from __future__ import annotations


class AnalysisError(Exception):
    """One line for the user: what happened, which key, what is allowed, what to do next."""
