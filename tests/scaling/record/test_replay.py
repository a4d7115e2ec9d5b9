"""What follows from journals: all of them, to their ends, in the order that they say themselves."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from scaling.limits import ConfigError
from scaling.record.journal import Journal, JournalError
from scaling.record.study import StudyRecord, read_record
from scaling.result import TrialResult

SWEEP = {"study": "s", "name": "n", "note": "", "tags": {"host": "h", "directory": "d"}}
MANY = 2000  # trials of one stack: a line of about 40 kB


def begin(journal: Journal, number: int, trial_id: str = "t", turn: int | None = None) -> None:
    header = {"trial_id": trial_id, "params": {"batch_size": 4}}
    header |= {"name": "B=4", "tags": {}, "config": ""}
    journal.write("trial", trial=number, **header, **({} if turn is None else {"turn": turn}))


def evaluate(journal: Journal, steps: Iterable[int], numbers: list[int]) -> None:
    for step in steps:
        loss = [1.0 / (1 + step) + number for number in numbers]
        journal.write("evaluation", step=step, trials=numbers, loss=loss)


def finish(journal: Journal, number: int, last_step: int) -> None:
    result = TrialResult("censored", {}, {}, last_step, 1.0, None, 0.5)
    journal.write("outcome", trial=number, **result.as_line())


def test_a_long_journal_and_a_short_later_one_lose_nothing(tmp_path: Path) -> None:
    """Two sessions of a study; the first journal is longer than any reader takes at once."""
    numbers = list(range(MANY))
    with Journal(tmp_path / "1.jsonl", "s", SWEEP) as journal:
        for number in numbers:
            begin(journal, number, f"t{number}", 1)
        evaluate(journal, range(130), numbers)
    assert journal.path.stat().st_size > 2**22
    with Journal(tmp_path / "2.jsonl", "s", SWEEP) as journal:
        for number in numbers:
            begin(journal, number, f"t{number}", 2)
        evaluate(journal, range(130, 140), numbers)
    record = read_record(tmp_path)
    assert {tuple(trial.steps) for trial in record.trials.values()} == {tuple(range(140))}
    assert record.trials["t7"].losses == [1.0 / (1 + step) + 7 for step in range(140)]


def test_a_line_of_any_length_does_not_end_the_reading(tmp_path: Path) -> None:
    with Journal(tmp_path / "1.jsonl", "s", SWEEP) as journal:
        begin(journal, 0, turn=1)
        evaluate(journal, range(3), [0])
        journal.write("sweep", tags={}, files={"uncommitted.diff": "x" * 10_000_000})
        evaluate(journal, range(3, 6), [0])
    assert read_record(tmp_path).trials["t"].steps == list(range(6))


@pytest.mark.parametrize("shift", [-3600.0, 3600.0])
def test_another_clock_changes_nothing(
    shift: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished, then asked for more steps, on a machine whose clock is an hour off."""
    with Journal(tmp_path / "1.jsonl", "s", SWEEP) as journal:
        begin(journal, 0, turn=1)
        evaluate(journal, range(5), [0])
        finish(journal, 0, 4)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + shift)
    with Journal(tmp_path / "0.jsonl", "s", SWEEP) as journal:  # its name sorts first, too
        begin(journal, 0, turn=2)
        evaluate(journal, range(5, 9), [0])
        assert read_record(tmp_path).trials["t"].status == "begun"
        finish(journal, 0, 8)
    known = read_record(tmp_path).trials["t"]
    assert (known.status, known.steps, known.turn) == ("ended", list(range(9)), 2)


def test_a_clock_that_is_set_back_meanwhile_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = itertools.count(1_800_000_000, -30)
    monkeypatch.setattr(time, "time", lambda: next(moments))
    with Journal(tmp_path / "1.jsonl", "s", SWEEP) as journal:
        begin(journal, 0, turn=1)
        evaluate(journal, range(5), [0])
        finish(journal, 0, 4)
    assert read_record(tmp_path).trials["t"].status == "ended"


def test_every_order_of_reading_gives_the_same(tmp_path: Path) -> None:
    """Begun and lost; failed, as its sweep says; done: three journals under any names."""
    for order in itertools.permutations("123"):
        folder = tmp_path / "".join(order)
        folder.mkdir()
        with Journal(folder / f"{order[0]}.jsonl", "s", SWEEP) as journal:
            begin(journal, 0, turn=1)
            evaluate(journal, range(4), [0])
        with Journal(folder / f"{order[1]}.jsonl", "s", SWEEP) as journal:
            begin(journal, 0, turn=2)
            journal.write("failure", trial=0, error="E", log="train.log")
        assert read_record(folder).trials["t"].failed
        with Journal(folder / f"{order[2]}.jsonl", "s", SWEEP) as journal:
            begin(journal, 0, turn=3)
            evaluate(journal, range(2, 6), [0])
            finish(journal, 0, 5)
        known = read_record(folder).trials["t"]
        assert (known.status, known.steps) == ("ended", list(range(6)))


def test_journals_of_the_format_before_are_read_by_their_times(tmp_path: Path) -> None:
    def write(name: str, *lines: dict) -> None:
        first = {"record": "journal", "time": 1.0, "format": 2, "study": "s", "sweep": SWEEP}
        first |= {"host": "h", "pid": 1, "process_started": 1.0}
        header = {"record": "trial", "trial": 0, "trial_id": "t", "params": {"batch_size": 4}}
        every = [first, *({**header, **line} if "record" not in line else line for line in lines)]
        (tmp_path / name).write_text("".join(f"{json.dumps(line)}\n" for line in every))

    def evaluation(step: int, moment: float) -> dict:
        place = {"time": moment, "step": step}
        return {"record": "evaluation", **place, "trials": [0], "loss": [1.0]}

    failure = {"record": "failure", "time": 9.0, "trial": 0, "error": "E", "log": "train.log"}
    write("1.jsonl", {"time": 8.9}, failure)  # of the sweep, which opened its journal first
    write("2.jsonl", {"time": 3.0}, evaluation(0, 3.1), evaluation(1, 3.2))
    assert read_record(tmp_path).trials["t"].failed
    with Journal(tmp_path / "0.jsonl", "s", SWEEP) as journal:
        begin(journal, 0, turn=read_record(tmp_path).trials["t"].turn + 1)
        evaluate(journal, [2], [0])
        finish(journal, 0, 2)
    known = read_record(tmp_path).trials["t"]
    assert (known.status, known.steps) == ("ended", [0, 1, 2])


def whole_journal(folder: Path) -> Path:
    with Journal(folder / "1.jsonl", "s", SWEEP) as journal:
        begin(journal, 0, turn=1)
        evaluate(journal, range(6), [0])
        finish(journal, 0, 5)
    return journal.path


def damage(path: Path, number: int, change) -> StudyRecord:
    """The record after a change to line `number` (from 1)."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = change(lines[number - 1])
    path.write_bytes(b"".join(lines))
    return read_record(path.parent)


def test_no_flipped_digit_is_accepted(tmp_path: Path) -> None:
    path = whole_journal(tmp_path)
    content = path.read_bytes()
    line = content.splitlines(keepends=True)[4]
    for position in range(len(line) - 1):
        flipped = bytes([line[position] ^ 1])
        record = damage(path, 5, lambda line, p=position, f=flipped: line[:p] + f + line[p + 1 :])
        assert len(record.damaged) == 1, flipped
        assert record.damaged[0].startswith(f"{path}: line 5 is damaged (")
        steps = record.trials["t"].steps
        assert steps == [0, 1, 3, 4, 5]  # the rest of the journal stands
        path.write_bytes(content)
    assert read_record(tmp_path).damaged == []


def test_a_line_that_is_gone_is_missed(tmp_path: Path) -> None:
    record = damage(whole_journal(tmp_path), 5, lambda line: b"")
    [said] = record.damaged
    assert "line 5 is damaged (lines before it are missing: it is number 6)" in said
    assert record.trials["t"].steps == [0, 1, 3, 4, 5]
    assert "trained again" in record.troubles[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"record": "evaluation", "step": 9, "trials": [0]}, "loss is not a list of 1"),
        ({"record": "evaluation", "step": "9", "trials": [0], "loss": [1.0]}, "wrong type"),
        ({"record": "evaluation", "step": 9, "trials": [0], "loss": [1.0, 2.0]}, "list of 1"),
        ({"record": "evaluation", "step": 9, "trials": [7], "loss": [1.0]}, "no beginning"),
        ({"record": "evaluation", "step": 9, "trials": [0], "loss": [{"a": 1}]}, "list of 1"),
        ({"record": "outcome", "trial": 0}, "outcome"),
        ({"record": "trial", "trial": 0, "trial_id": 3, "params": {}}, "wrong type"),
        ({"record": 5}, "does not name its record"),
    ],
)
def test_a_line_of_another_form_is_named_and_left_out(
    line: dict, says: str, tmp_path: Path
) -> None:
    with Journal(tmp_path / "1.jsonl", "s", SWEEP) as journal:
        begin(journal, 0, turn=1)
        evaluate(journal, range(3), [0])
        journal.write(**line)
        evaluate(journal, range(3, 5), [0])
        finish(journal, 0, 4)
    record = read_record(tmp_path)
    [said] = record.damaged
    assert "1.jsonl: line 6 is damaged (" in said
    assert says in said
    assert record.trials["t"].steps == list(range(5))
    assert record.trials["t"].status == "ended"


def test_a_deeply_nested_line_is_named(tmp_path: Path) -> None:
    path = whole_journal(tmp_path)
    record = damage(path, 4, lambda line: b"[" * 100_000 + b"\n")
    assert "line 4 is damaged" in record.damaged[0]


def test_a_journal_without_its_first_line_holds_nothing(tmp_path: Path) -> None:
    record = damage(whole_journal(tmp_path), 1, lambda line: b"")
    assert record.trials == {}
    assert "line 1 is damaged (the first line of its journal is lost)" in record.damaged[0]


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_plain_file_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    import os

    whole_journal(tmp_path)
    path = tmp_path / "2.jsonl"
    make = {"link": lambda: path.symlink_to("1.jsonl"), "folder": path.mkdir}
    make.get(kind, lambda: os.mkfifo(path))()
    with pytest.raises(JournalError, match=r"2\.jsonl: not a journal: is") as refused:
        read_record(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [("study.json", "{"), ("study.json", "[]"), ("study.json", '{"study": 3}')],
)
def test_a_damaged_study_file_is_one_line(name: str, content: str, tmp_path: Path) -> None:
    from sweeps.run.study_folder import live_sweep
    from sweeps.sync import sync

    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=r"its study\.json is damaged"):
        sync(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(ConfigError, match="damaged"), live_sweep(tmp_path, "s"):
        pass


@pytest.mark.parametrize("name", ["lock", "writer.lock", "checkpoints"])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "file"])
def test_what_stands_in_for_a_file_of_the_record_is_one_line(
    name: str, kind: str, tmp_path: Path
) -> None:
    import os

    from sweeps.run.study_folder import live_sweep

    path, secret = tmp_path / name, tmp_path / "secret"
    secret.write_text("untouched")
    make = {"link": lambda: path.symlink_to(secret), "folder": path.mkdir, "file": path.touch}
    make.get(kind, lambda: os.mkfifo(path))()
    if kind == ("folder" if name == "checkpoints" else "file"):
        with live_sweep(tmp_path, "s"):
            return
    with pytest.raises(ConfigError, match=f"its {name} is not a plain"), live_sweep(tmp_path, "s"):
        pass
    assert secret.read_text() == "untouched"
