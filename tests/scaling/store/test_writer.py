"""The writing process, started before it is known what it is to write."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from scaling.store import writer as writer_module
from scaling.store.follow import Destination
from scaling.store.writer import Writer, end_early, start_early
from tests.conftest import store_of
from tests.scaling.store.test_tracking import new_journal, runs_of, write_trial


def writers() -> list[int]:
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.ZombieProcess):  # what an earlier test ended
            found += [child.pid] if "spawn" in str(child.cmdline()) else []
    return found


@pytest.fixture
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    (tmp_path / "record").mkdir()
    return Destination(store_of("sqlite", request, tmp_path), "study", "", tmp_path / "record", "x")


@pytest.mark.long
def test_the_first_writer_takes_over_what_was_started(destination: Destination) -> None:
    start_early()
    [early] = writers()
    writer = Writer(destination)
    assert writers() == [early]
    with new_journal(destination.folder, "1") as journal:
        write_trial(journal, 0, 3)
        journal.write("end", status="FINISHED")
    writer.close("FINISHED")
    assert "trialid0" in runs_of(destination.uri)[1]
    assert not writers()


@pytest.mark.long
def test_one_that_was_killed_while_it_waited_is_replaced(destination: Destination) -> None:
    start_early()
    psutil.Process(writers()[0]).kill()
    writer = Writer(destination)
    assert writer.wait_until_open() == ""
    writer.close("FINISHED")


def test_what_nobody_took_over_ends_at_once() -> None:
    start_early()
    [early] = writers()
    end_early()
    assert not psutil.pid_exists(early)
    assert not writer_module._early
