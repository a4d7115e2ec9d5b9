"""Saved views: what the trials of a study make of them, and how they reach the experiment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from scaling import schema
from scaling.store.client import Store
from scaling.store.sync import Sync
from scaling.store.views import TAG, varying, view_tags
from tests.scaling.store.test_tracking import new_journal, replay, runs_of, write_trial

PARAMS = [
    {"batch_size": 4, "lr": 0.1, "seed": seed, "model.width": 8, "targets": [seed], "device": "cpu"}
    for seed in (0, 1)
]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh database; making one takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    (tmp_path / "record").mkdir()
    return f"sqlite:///{tmp_path}/mlflow.db"


def state_of(tags: dict[str, str], view: str) -> dict:
    envelope = json.loads(tags[TAG + view])
    assert envelope["createdAt"] == envelope["updatedAt"]
    return json.loads(envelope["state"])


def test_columns_are_what_differs() -> None:
    assert varying(PARAMS) == ["batch_size", "lr", "seed"]
    wider = [*PARAMS, {**PARAMS[0], "model.width": 16}]
    assert varying(wider) == ["batch_size", "lr", "seed", "model.width"]
    state = state_of(view_tags(wider, [0.5, 0.25]), schema.VIEW_TRIALS)
    columns = state["selectedColumns"]
    assert columns[3:6] == [
        "params.`model.width`",
        "metrics.`loss`",
        "metrics.`steps_to_target/0.25`",
    ]
    assert state["orderByKey"] == "metrics.`loss`"  # sorted by time MLflow would fold the trials in


def test_curves_are_means_over_seeds_against_steps_or_examples() -> None:
    tags = view_tags(PARAMS, [0.5])
    for view, axis in ((schema.VIEW_STEPS, ""), (schema.VIEW_EXAMPLES, "examples")):
        state = state_of(tags, view)
        assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": schema.SETTING}]
        assert {chart["selectedXAxisMetricKey"] for chart in state["compareRunCharts"]} == {axis}
        assert state["compareRunCharts"][0]["metricKey"] == "loss"


def test_pictures_come_without_the_params_as_a_caption() -> None:
    charts = state_of(view_tags(PARAMS, [], "pictures"), schema.VIEW_TRIALS)["compareRunCharts"]
    [images] = [chart for chart in charts if chart["type"] == "IMAGE"]
    assert images["imageKeys"] == ["pictures"]
    assert images["showRunParams"] is False
    without = state_of(view_tags(PARAMS, []), schema.VIEW_TRIALS)["compareRunCharts"]
    assert [chart["type"] for chart in without] == ["LINE"]


def test_views_and_what_a_sweep_says_reach_the_store(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "record"
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 3)
        journal.write("sweep", tags={"a": "1"}, files={"provenance/packages.txt": "numpy==2\n"})
        journal.write("sweep", tags={"b": "2"}, files={})
    replay(folder, uri)
    client, runs = runs_of(uri)
    sweep = runs["sweep"]
    assert (sweep.data.tags["a"], sweep.data.tags["b"]) == ("1", "2")
    held = client.list_artifacts(sweep.info.run_id, "provenance")
    assert [item.path for item in held] == ["provenance/packages.txt"]
    tags = client.get_experiment(sweep.info.experiment_id).tags
    assert {key.removeprefix(TAG) for key in tags if key.startswith(TAG)} == {
        *(schema.VIEW_TRIALS, schema.VIEW_STEPS, schema.VIEW_EXAMPLES, schema.VIEW_FRONTIER)
    }
    assert "**how?**" in tags["mlflow.note.content"]
    before = {key: value for key, value in tags.items() if key.startswith(TAG)}
    replay(folder, uri)
    again = MlflowClient(uri).get_experiment(sweep.info.experiment_id).tags
    assert before.items() <= again.items()


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname"])
def test_a_journal_names_no_file_outside_its_folder(tmp_path: Path, uri: str, path: str) -> None:
    folder = tmp_path / "record"
    (tmp_path / "secret.png").write_bytes(b"secret")
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 1, end=False)
        journal.write("model", trial=0, kind="best", path=path)
        write_trial(journal, 0, 2)
    sync = Sync(folder, Store(uri, "study", "how?"), uri)
    sync.close("sweep-1", "FINISHED")
    assert any("outside of this folder" in line for line in sync.left_out.values())
    client, runs = runs_of(uri)
    run = runs["trialid0"]
    assert run.info.status == "FINISHED"  # the rest is written
    assert client.list_artifacts(run.info.run_id, "model") == []


def test_a_journal_has_no_file_sent_but_a_log_of_training(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "record"
    (tmp_path / "secret.txt").write_text("secret")
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 1, end=False)
        journal.write("failure", trial=0, error="no", log=str(tmp_path / "secret.txt"))
    replay(folder, uri)
    client, runs = runs_of(uri)
    sent = client.download_artifacts(runs["trialid0"].info.run_id, "train.log", str(tmp_path))
    assert "secret.txt: is not a log" in Path(sent).read_text()
