"""Any command line ends with exit code 0, or with one line and exit code 2: within seconds, and
nothing is created."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.sweeps.in_process import command
from tests.sweeps.lines import lines

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
BOUNDED = settings(deadline=None, database=None, suppress_health_check=SLOW, print_blob=True)


def check(line: list[str], folder: Path) -> None:
    done = command(line, folder, limit_seconds=20)
    said = f"{line}: exit code {done.code}, {done.seconds:.1f} s, {done.created}\n{done.stderr}"
    assert done.code in (0, 2), said
    assert not done.created, said
    if done.code:
        assert done.lines == 1, said
        assert done.stderr.startswith("error: "), said
        assert len(done.stderr) < 1100, said
    else:
        assert "Traceback" not in done.stderr, said


@settings(BOUNDED, max_examples=15, derandomize=True)
@given(lines())
def test_some_lines(tmp_path_factory: pytest.TempPathFactory, line: list[str]) -> None:
    check(line, tmp_path_factory.mktemp("line"))


@pytest.mark.long
@settings(BOUNDED, max_examples=120)
@given(lines())
def test_many_lines(tmp_path_factory: pytest.TempPathFactory, line: list[str]) -> None:
    check(line, tmp_path_factory.mktemp("line"))
