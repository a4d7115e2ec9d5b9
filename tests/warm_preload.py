"""Imported by the fork server of `tests.warm_processes`, before it forks anything."""

from tests.warm_processes import take_over

take_over()
