"""What a store refuses, lacks, or has not heard of: the rest goes in, and all of it in the end."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from analysis.read.runs import read_study
from scaling.record.journal import Journal
from scaling.result import TrialResult
from scaling.store.check import StoreError, is_refused
from scaling.store.client import Store
from scaling.store.follow import Destination
from scaling.store.note import Acknowledged, note_path
from scaling.store.sync import Sync
from scaling.store.writer import Writer
from tests.conftest import store_of
from tests.scaling.store.test_tracking import new_journal, runs_of
from tests.stores.rows import points_of, query

PARAMS = {
    "batch_size": 4,
    "lr": 0.1,
    "seed": 0,
    "model_size": 1,
    "irreducible_loss": 0.0,
    "initial_loss": 2.0,
    "targets": [0.5],
    "budget.max_steps": 5,
    "tail_factor": 2.0,
}


@pytest.fixture
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return store_of("sqlite", request, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "record").mkdir()
    return tmp_path / "record"


def write_trial(
    journal: Journal, number: int, steps: int, first: int = 0, turn: int = 1, **params: object
) -> None:
    """A finished trial, or the rest of one."""
    header = {"trial_id": f"id{number}", "name": f"B=4 seed={number}", "turn": turn}
    header |= {"params": {**PARAMS, **params}, "tags": {"overrides": "lr=0.1"}, "config": "a: 1\n"}
    journal.write("trial", trial=number, **header)
    for step in range(first, steps + 1):
        journal.write("evaluation", step=step, trials=[number], loss=[2 / (step + 1)])
    result = TrialResult("reached", {0.5: "reached"}, {0.5: 2.0}, steps, 2 / (steps + 1), None, 0.2)
    journal.write("outcome", trial=number, **result.as_line())


def replay(folder: Path, uri: str, sweep: str = "sweep-1") -> Sync:
    said: list[str] = []
    sync = Sync(folder, Store(uri, "study"), uri, said.append, thorough=True)
    sync.close(sweep, "FINISHED")
    assert set(said) >= set(sync.left_out.values())  # at once, too
    return sync


def steps_of(uri: str) -> dict[str, list[int]]:
    """The steps of every stored point of the loss, by trial: twice what is doubled."""
    found: dict[str, list[int]] = {}
    for trial_id, metric, step, *_ in points_of(uri):
        if metric == "loss":
            found.setdefault(trial_id, []).append(step)
    return found


def execute(uri: str, statement: str) -> None:
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
        connection.execute(statement)
    connection.close()


def test_the_newest_request_is_what_one_sees(folder: Path, uri: str) -> None:
    """Another budget and target of the same trial, from another record folder too."""
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 5)
    replay(folder, uri)
    with new_journal(folder, "2", "sweep-2") as journal:
        new = {"budget.max_steps": 9, "targets": [0.25]}
        write_trial(journal, 0, 9, first=6, turn=2, **new)
    assert replay(folder, uri, "sweep-2").left_out == {}
    (folder.parent / "other").mkdir()
    [trial] = read_study("study", uri)[0].to_dict("records")
    assert (trial["budget.max_steps"], trial["targets"]) == (9, (0.25,))
    with new_journal(folder.parent / "other", "3", "sweep-3") as journal:
        write_trial(journal, 0, 7, **{"budget.max_steps": 7, "initial_loss": 2.0000001})
    assert replay(folder.parent / "other", uri, "sweep-3").left_out == {}
    [trial] = read_study("study", uri)[0].to_dict("records")
    assert trial["budget.max_steps"] == 7
    assert trial["targets"] == (0.5,)
    assert trial["initial_loss"] == 2.0
    assert steps_of(uri) == {"id0": list(range(10))}
    assert query(uri, "SELECT value FROM params WHERE key = 'budget.max_steps'") == []


def test_records_of_the_version_before_are_read_with_the_newest_request(
    folder: Path, uri: str
) -> None:
    store = Store(uri, "study")
    tags = {"kind": "trial", "trial_id": "id0", "outcome": "reached", "last_step": "1"}
    run_id = store.create_run("B=4", 1.0, tags)
    points = [("loss", 2.0, 1.0, 0), ("loss", 1.0, 1.0, 1)]
    store.log(run_id, points, PARAMS)
    store.set_status(run_id, "FINISHED", 2.0)
    [trial] = read_study("study", uri)[0].to_dict("records")
    assert (trial["budget.max_steps"], trial["targets"]) == (5, (0.5,))
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 3, **{"budget.max_steps": 3})
    assert replay(folder, uri).left_out == {}
    [trial] = read_study("study", uri)[0].to_dict("records")
    assert trial["budget.max_steps"] == 3
    assert steps_of(uri) == {"id0": [0, 1, 2, 3]}  # what stood there is not there twice


def test_a_refused_trial_keeps_no_other_one_out(folder: Path, uri: str) -> None:
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 3, **{"p" * 300: 1})  # a name that no store takes
        write_trial(journal, 1, 3)
    sync = replay(folder, uri)
    assert (sync.n_refused, sync.written) == (1, 1)
    [line] = sync.left_out.values()
    assert line.startswith("B=4 seed=0: the store refuses it (")
    assert "\n" not in line
    assert steps_of(uri)["id1"] == [0, 1, 2, 3]
    assert replay(folder, uri).n_refused == 1  # it is tried again


def test_a_run_that_was_deleted_gets_a_new_one(folder: Path, uri: str) -> None:
    """In MLflow's pages, while a sweep that extends the trial has the study open."""
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 3)
    replay(folder, uri)
    sync = Sync(folder, Store(uri, "study"), uri)
    client, runs = runs_of(uri)
    client.delete_run(runs["trialid0"].info.run_id)
    with new_journal(folder, "2", "sweep-2") as journal:
        write_trial(journal, 0, 6, first=4, turn=2)
    sync.close("sweep-2", "FINISHED")
    assert sync.left_out == {}
    assert steps_of(uri) == {"id0": list(range(7))}


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (MlflowException("Changing param values is not allowed", 1000), True),
        (MlflowException("must be in the 'active' state", 1000), True),
        (MlflowException("(sqlite3.OperationalError) database is locked", 1000), False),
        (MlflowException("internal", 1), False),
        (StoreError("the writer of an earlier sweep of this study is busy"), False),
        (ConnectionResetError("reset"), False),
        (ValueError("a text that cannot be encoded"), True),
    ],
)
def test_away_and_refused_are_told_apart(error: Exception, refused: bool) -> None:
    assert is_refused(error) == refused


def both_trials(folder: Path) -> None:
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 5)
        write_trial(journal, 1, 5)
        journal.write("end", status="FINISHED")


LOSSES = {
    "a point": "DELETE FROM metrics WHERE key = 'loss' AND step = 2",
    "a param": "DELETE FROM params WHERE key = 'lr'",
    "the identity": "DELETE FROM tags WHERE key = 'trial_id'",
    "the outcome": "DELETE FROM tags WHERE key = 'outcome'",
    "the status": "UPDATE runs SET status = 'RUNNING', end_time = NULL",
}


@pytest.mark.parametrize("what", LOSSES)
def test_what_a_store_has_lost_is_written_again(what: str, folder: Path, uri: str) -> None:
    both_trials(folder)
    replay(folder, uri)
    points, runs = points_of(uri), runs_of(uri)[1]
    execute(uri, LOSSES[what])
    replay(folder, uri)
    assert points_of(uri) == points
    for name, run in runs_of(uri)[1].items():
        assert run.data.params == runs[name].data.params
        assert run.data.tags == runs[name].data.tags
        assert (run.info.run_id, run.info.status) == (runs[name].info.run_id, "FINISHED")


def test_a_store_restored_from_a_backup_is_completed(folder: Path, uri: str) -> None:
    database = Path(uri.removeprefix("sqlite:///"))
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 3)
        replay(folder, uri)
        shutil.copy(database, database.with_suffix(".backup"))
        write_trial(journal, 0, 9, first=4, turn=2)
        write_trial(journal, 1, 5)
    replay(folder, uri)
    points = points_of(uri)
    shutil.copy(database.with_suffix(".backup"), database)
    replay(folder, uri)
    assert points_of(uri) == points


def test_a_record_that_was_removed_and_made_again_doubles_nothing(folder: Path, uri: str) -> None:
    for _ in range(2):
        both_trials(folder)
        replay(folder, uri)
        shutil.rmtree(folder)
        folder.mkdir()
        time.sleep(0.01)
    assert steps_of(uri) == {"id0": list(range(6)), "id1": list(range(6))}
    assert sum(metric == "steps_to_target/0.5" for _, metric, *_ in points_of(uri)) == 2


def test_an_answer_without_a_run_is_asked_for_again(
    folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    both_trials(folder)
    create, cut = MlflowClient.create_run, [True]

    def cut_off(*arguments, **keywords):
        run = create(*arguments, **keywords)
        if cut:
            cut.clear()
            run.info._run_id = ""
        return run

    monkeypatch.setattr(MlflowClient, "create_run", cut_off)
    sync = Sync(folder, Store(uri, "study"), uri)
    with pytest.raises(StoreError, match="cut off"):
        sync.step()
    sync.close("sweep-1", "FINISHED")
    assert steps_of(uri) == {"id0": list(range(6)), "id1": list(range(6))}
    assert len(runs_of(uri)[1]) == 3


@pytest.mark.parametrize(
    "content",
    [b"rubbish\n", b"[1]\n", b'{"step": 3}\n{"run": 1\n', b'{"steps": 3, "trial_id": "id0"}\n'],
)
def test_a_damaged_note_is_set_aside(content: bytes, folder: Path, uri: str) -> None:
    both_trials(folder)
    replay(folder, uri)
    points, note = points_of(uri), note_path(folder, uri)
    note.write_bytes(note.read_bytes() + content)
    noted = Acknowledged(folder, uri)
    assert noted.damage.startswith(f"{note}: the note of what the store has is damaged (")
    assert "\n" not in noted.damage
    noted.close()
    note.write_bytes(content)
    assert replay(folder, uri).left_out == {}
    assert points_of(uri) == points
    assert note.with_suffix(".damaged").read_bytes() == content
    assert len(runs_of(uri)[1]) == 3


def test_a_flipped_digit_in_a_note_is_seen(folder: Path, uri: str) -> None:
    both_trials(folder)
    replay(folder, uri)
    note = note_path(folder, uri)
    note.write_bytes(note.read_bytes().replace(b'"steps":[0,1,2,', b'"steps":[0,1,9,', 1))
    noted = Acknowledged(folder, uri)
    noted.close()
    assert "checksum does not match" in noted.damage


def test_a_broken_picture_or_name_keeps_nothing_else_out(folder: Path, uri: str) -> None:
    (folder / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "pictures" / "2.png")
    (folder / "pictures" / "1.png").write_bytes(b"\x89PNG rubbish")
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 0)
        for step in (1, 2):
            journal.write("picture", trial=0, step=step, path=f"pictures/{step}.png")
        write_trial(journal, 0, 3, turn=2)
        write_trial(journal, 1, 3)
        journal.write("sweep", tags={}, files={"../x": "text", "kept.txt": "text"})
    sync = replay(folder, uri)
    said = "\n".join(sync.left_out.values())
    assert "pictures/1.png is not a picture" in said
    assert "its file ../x (" in said
    assert sync.n_refused == 0
    client, runs = runs_of(uri)
    assert runs["trialid0"].info.status == runs["trialid1"].info.status == "FINISHED"
    held = client.list_artifacts(runs["trialid0"].info.run_id, "images")
    assert len([item for item in held if "+step+2+" in item.path]) == 2
    assert not [item for item in held if "+step+1+" in item.path]
    [kept] = client.list_artifacts(runs["sweep"].info.run_id)
    assert kept.path == "kept.txt"


@pytest.mark.parametrize("how", ["link", "outside", "link inside"])
def test_no_foreign_file_is_sent(how: str, folder: Path, uri: str, tmp_path: Path) -> None:
    """A record folder that somebody prepared, whose log is the private key of who writes it."""
    key = tmp_path / "train.log"
    key.write_text("private")
    log = folder / "1" / "train.log"
    log.parent.mkdir()
    if how == "outside":
        log = key
    elif how == "link":
        log.symlink_to(key)
    else:
        (folder / "real.txt").write_text("private")
        log.symlink_to(folder / "real.txt")
    (folder / "models").symlink_to(tmp_path)
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 1)
        journal.write("model", trial=0, kind="best", path="models/train.log")
        journal.write("failure", trial=0, error="E", log=str(log))
        write_trial(journal, 1, 1)
    with new_journal(folder, "2", "sweep-2") as journal:
        header = {"trial_id": "id0", "name": "B=4", "turn": 2, "params": PARAMS}
        journal.write("trial", trial=0, **header, tags={}, config="")
        journal.write("failure", trial=0, error="E", log=str(log))
    sync = replay(folder, uri)
    assert sum("not sent" in line for line in sync.left_out.values()) == 2
    sent = [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]
    assert sent
    assert not [path for path in sent if "private" in path.read_text()]
    assert runs_of(uri)[1]["trialid1"].info.status == "FINISHED"


def test_the_log_of_a_record_that_was_moved_is_found(folder: Path, uri: str) -> None:
    (folder / "1").mkdir()
    (folder / "1" / "train.log").write_text("the whole story")
    with new_journal(folder, "1") as journal:
        header = {"trial_id": "id0", "name": "B=4", "turn": 1, "params": PARAMS}
        journal.write("trial", trial=0, **header, tags={}, config="")
        journal.write("failure", trial=0, error="E", log="1/train.log")
    moved = folder.rename(folder.with_name("moved"))
    assert replay(moved, uri).left_out == {}
    [sent] = (folder.parent / "mlartifacts").rglob("train.log")
    assert sent.read_text() == "the whole story"


def test_artifacts_of_a_project_that_was_moved_lie_beside_its_store(
    folder: Path, uri: str, tmp_path: Path
) -> None:
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 1)
    replay(folder, uri)
    new = tmp_path / "new place"
    new.mkdir()
    for name in ("mlflow.db", "mlartifacts", "record"):
        (tmp_path / name).rename(new / name)
    there = f"sqlite:///{new}/mlflow.db"
    with new_journal(new / "record", "2", "sweep-2") as journal:
        write_trial(journal, 1, 1)
    writer = Writer(Destination(there, "study", "", new / "record", "sweep-2"))
    assert writer.close("FINISHED").lines == []  # another process: MLflow remembers folders in one
    assert not (tmp_path / "mlartifacts").exists()
    location = "SELECT artifact_uri FROM runs"
    for (artifacts,) in query(there, location):  # of the run that was there before, too
        assert artifacts.startswith(f"{new.as_uri()}/mlartifacts/study/")
    assert len(list((new / "mlartifacts").rglob("config.yaml"))) == 2


def test_damaged_lines_are_named_and_the_rest_is_written(folder: Path, uri: str) -> None:
    both_trials(folder)
    path = folder / "1.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step":3', b'"step":7', 1))
    (folder / "2.jsonl").write_text("rubbish\n")
    (folder / "3.jsonl").mkdir()
    sync = replay(folder, uri)
    said = sorted(sync.left_out.values())
    assert [line.partition(": ")[0] for line in said] == [
        str(folder / f"{name}.jsonl") for name in ("1", "2", "3")
    ]
    assert "line 6 is damaged" in said[0]
    assert steps_of(uri) == {"id0": [0, 1, 2, 4, 5], "id1": list(range(6))}


def test_what_was_lost_and_trained_again_fills_the_gap(folder: Path, uri: str) -> None:
    """A step below the last one that the store has."""
    test_damaged_lines_are_named_and_the_rest_is_written(folder, uri)
    with new_journal(folder, "9", "sweep-2") as journal:
        write_trial(journal, 0, 5, turn=2)
    replay(folder, uri, "sweep-2")
    assert steps_of(uri) == {"id0": [0, 1, 2, 3, 4, 5], "id1": list(range(6))}


def test_a_trial_begun_again_is_not_ended_by_clocks(
    folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_trials(folder)
    replay(folder, uri)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    with new_journal(folder, "0", "sweep-2") as journal:
        write_trial(journal, 0, 8, first=6, turn=2)
        write_trial(journal, 1, 8, first=6, turn=2)
        journal.write("end", status="FINISHED")
    replay(folder, uri, "sweep-2")
    runs = runs_of(uri)[1]
    assert {runs[f"trialid{n}"].info.status for n in (0, 1)} == {"FINISHED"}
    assert {runs[f"trialid{n}"].data.tags["last_step"] for n in (0, 1)} == {"8"}
    assert steps_of(uri) == {"id0": list(range(9)), "id1": list(range(9))}
