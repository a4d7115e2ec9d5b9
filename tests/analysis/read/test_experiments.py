"""Experiments of other projects in MLflow: names mapped, filtered, what cannot be used said."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from analysis import analyse
from analysis.errors import AnalysisError
from analysis.measure.cell_frame import steps_to_target
from analysis.read.experiments import is_ours, read_mlflow
from analysis.read.logged import read_curves, without_abandoned
from analysis.read.runs import read_study
from analysis.read.store_client import read_client
from analysis.read.store_database import read_database
from analysis.read.stores import Wanted
from tests.analysis.conftest import STUDY_NAME, Frames
from tests.analysis.read.stored import Foreign, new_store, write_foreign, write_study

NAMES = {"batch_size": "train.bs", "lr": "opt/lr", "loss": "eval/loss"}
CURVE = [(1, 2.0), (2, 1.4), (4, 1.0), (8, 0.7)]


def run(
    size: Any, loss: list[tuple[int, float]] | None = None, status: str = "FINISHED", **more: Any
) -> Foreign:
    params = {"train.bs": size, "opt/lr": 0.1, "arch": "cnn", **more}
    metrics = {"eval/loss": loss or CURVE, "size": [(0, 50.0)], "epoch": [(1, 0.5)]}
    return {key: value for key, value in params.items() if value is not None}, metrics, status


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    return new_store(tmp_path)


def test_names_filter_and_what_is_left_out(uri: str) -> None:
    again = [*CURVE, (8, 0.6)]  # logged twice: the newest counts
    runs = [
        run(8, again, seed=3),
        run(16, [(8, 0.7), *CURVE[:3]], seed=3),  # out of order
        run(16, [*CURVE[:2], (4, math.nan), (8, math.inf)], seed=4),
        run(32, arch="mlp"),
        run(None),
        run("auto"),
        run(64, status="FAILED"),
    ]
    write_foreign(uri, "theirs", runs)
    trials, curves = read_mlflow("theirs", uri, {**NAMES, "model_size": "size"})
    assert sorted(trials["batch_size"]) == [8, 16, 16, 32]
    assert set(trials["model_size"]) == {50.0}
    assert trials.set_index("batch_size").loc[8, "seed"] == 3
    assert trials.loc[trials["outcome"] == "diverged", "seed"].tolist() == [4]
    last = curves.groupby("run_id")["loss"].last()
    of_eight = trials.loc[trials["batch_size"] == 8, "run_id"].iloc[0]
    assert last[of_eight] == 0.6
    assert curves.groupby("run_id")["step"].apply(lambda s: s.is_monotonic_increasing).all()
    assert trials.attrs["left_out"] == [
        "Runs left out because they did not finish: 1 FAILED.",
        "Runs left out because they have no train.bs: 1.",
        "Runs left out because their train.bs cannot be used ('auto' for one): 1.",
    ]
    cells = steps_to_target(trials, curves, [1.2])
    assert cells["outcome"].tolist() == ["reached", "diverged", "reached"]
    only, _ = read_mlflow("theirs", uri, NAMES, filter="params.arch = 'mlp'")
    assert only["batch_size"].tolist() == [32]
    with pytest.raises(AnalysisError, match=r"source.filter=params.arch = 'x': no run of theirs"):
        read_mlflow("theirs", uri, NAMES, filter="params.arch = 'x'")
    with pytest.raises(AnalysisError, match=r"source.filter=arch is cnn: MLflow rejects it"):
        read_mlflow("theirs", uri, NAMES, filter="arch is cnn")
    for columns, says in (
        ({**NAMES, "loss": "eval_loss"}, "source.columns.loss=eval_loss: .* mean eval/loss"),
        ({**NAMES, "batch_size": "bs"}, r"columns.batch_size=bs: .* mean train.bs"),
        ({"batch_size": "train.bs", "lr": "opt/lr"}, "columns.loss=loss: .* did you mean eval/los"),
        ({**NAMES, "sed": "x"}, "source.columns.sed=x: there is no such column here"),
    ):
        with pytest.raises(AnalysisError, match=says) as told:
            read_mlflow("theirs", uri, columns)
        assert "\n" not in str(told.value)
    with pytest.raises(AnalysisError, match="no run is left"):
        read_mlflow("theirs", uri, {**NAMES, "lr": "arch"})


def test_runs_of_another_project_among_ours(uri: str, small_study: Frames) -> None:
    trials, curves = small_study
    write_study(uri, STUDY_NAME, trials.head(3), curves)
    write_foreign(uri, STUDY_NAME, [run(8), run(16)])
    write_foreign(uri, "theirs", [run(8)])
    ours, _ = read_study(STUDY_NAME, uri)
    assert len(ours) == 3
    said = ["Runs of another project in the same experiment, left out: 2."]
    assert ours.attrs["left_out"] == said
    theirs, _ = read_mlflow(STUDY_NAME, uri, NAMES)
    assert sorted(theirs["batch_size"]) == [8, 16]
    # three trials and their parent run
    assert theirs.attrs["left_out"][0] == "Runs left out because they have no train.bs: 4."
    assert is_ours(STUDY_NAME, uri)
    assert not is_ours("theirs", uri)


def test_a_step_counter_and_examples_of_their_own(uri: str) -> None:
    metrics = {
        "eval/loss": [(1, 2.0), (2, 1.0), (3, 0.5)],  # logged by epoch
        "global_step": [(1, 100.0), (2, 200.0)],
    }
    write_foreign(uri, "theirs", [({"train.bs": 8, "opt/lr": 0.1}, metrics, "FINISHED")])
    trials, curves = read_mlflow("theirs", uri, {**NAMES, "step": "global_step"})
    assert curves["step"].tolist() == [100, 200]
    said = "Evaluations left out because global_step was not logged with them: 1."
    assert trials.attrs["left_out"] == [said]


def test_no_point_is_cut_beyond_25_000(uri: str) -> None:
    (run_id,) = write_foreign(uri, "long", [run(8)])
    n = 30_000
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        database.executemany(
            "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)"
            " VALUES ('eval/loss', ?, ?, ?, ?, 0)",
            [(1.0 / step, step, run_id, step) for step in range(100, 100 + n)],
        )
        database.execute(
            "UPDATE latest_metrics SET value = ?, step = ? WHERE key = 'eval/loss'",
            (1.0 / (99 + n), 99 + n),
        )
    database.close()
    wanted = Wanted(("eval/loss",), only_trials=False)
    for read in (read_database, read_client):
        assert len(read_curves(read("long", uri, wanted))) == n + len(CURVE)


def test_a_store_that_holds_points_back_is_an_error(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    write_foreign(uri, "theirs", [run(8)])
    whole = MlflowClient.get_metric_history

    def cut(self: MlflowClient, run_id: str, key: str) -> Any:
        return whole(self, run_id, key)[:2]

    monkeypatch.setattr(MlflowClient, "get_metric_history", cut)
    with pytest.raises(AnalysisError, match="the store gave 2 points and not the last one"):
        read_client("theirs", uri, Wanted(("eval/loss",), only_trials=False))


def test_both_ways_of_reading_give_the_same(uri: str) -> None:
    write_foreign(uri, "theirs", [run(8), run(16, [(1, 2.0), (2, math.nan), (3, math.inf)])])
    wanted = Wanted(("eval/loss",), only_trials=False)
    by_sql, by_client = (
        read_curves(read("theirs", uri, wanted), finite=False)
        .sort_values(["run_id", "step"], ignore_index=True)
        for read in (read_database, read_client)
    )  # fmt: skip
    pd.testing.assert_frame_equal(by_sql, by_client)
    assert by_sql["eval/loss"].map(math.isinf).sum() == 2


RESUMED = [
    *((step, 10 / step) for step in (1, 2, 4, 8, 16, 32)),  # then lost, and gone on with from 5
    *((step, 20 / step) for step in (6, 12, 24)),
]


def test_the_abandoned_tail_of_a_resumed_run_does_not_count(uri: str) -> None:
    whole = [(step, 20 / step) for step in (1, 2, 4, 8, 16, 32, 64)]
    write_foreign(uri, "theirs", [run(8, RESUMED), run(16, whole)])
    trials, curves = read_mlflow("theirs", uri, NAMES)
    assert trials.attrs["left_out"] == [
        "Evaluations left out because their run was resumed from an earlier step: 3."
    ]
    first = curves[curves["run_id"] == trials["run_id"].iloc[0]]
    assert first["step"].tolist() == [1, 2, 4, 6, 12, 24]
    cell = steps_to_target(trials, curves, [1.0]).iloc[0]
    assert cell["steps"] == pytest.approx(20, rel=0.05)
    wanted = Wanted(("eval/loss",), only_trials=False)
    kept = [
        without_abandoned(read("theirs", uri, wanted).metrics, "eval/loss")
        for read in (read_database, read_client)
    ]
    assert [n for _, n in kept] == [3, 3]
    by_sql, by_client = (
        metrics["eval/loss"][["step", "timestamp", "value"]].sort_values(["step", "value"])
        for metrics, _ in kept
    )
    assert by_sql.to_numpy().tolist() == by_client.to_numpy().tolist()


def test_a_step_counter_that_goes_back_is_a_resumed_run(uri: str) -> None:
    counter = [float(step) for step, _ in RESUMED]
    metrics = {
        "eval/loss": [(epoch, loss) for epoch, (_, loss) in enumerate(RESUMED)],
        "global_step": list(enumerate(counter)),
    }
    write_foreign(uri, "theirs", [({"train.bs": 8, "opt/lr": 0.1}, metrics, "FINISHED")])
    trials, curves = read_mlflow("theirs", uri, {**NAMES, "step": "global_step"})
    assert curves["step"].tolist() == [1, 2, 4, 6, 12, 24]
    assert "resumed from an earlier step: 3." in trials.attrs["left_out"][0]


def nested(uri: str, parent: dict[str, Any], children: list[Foreign]) -> list[str]:
    """Runs whose parent run holds params of all of them."""
    (parent_id,) = write_foreign(uri, "nested", [(parent, {}, "FINISHED")])
    ids = write_foreign(uri, "nested", children)
    client = MlflowClient(uri)
    for run_id in ids:
        client.set_tag(run_id, "mlflow.parentRunId", parent_id)
    return ids


def test_params_may_stand_with_the_parent_run_alone(uri: str) -> None:
    children: list[Foreign] = [
        ({"train.bs": 8}, {"eval/loss": CURVE}, "FINISHED"),
        ({"train.bs": 16, "opt/lr": 0.2}, {"eval/loss": CURVE}, "FINISHED"),
    ]
    ids = nested(uri, {"opt/lr": 0.1, "arch": "cnn"}, children)
    trials, _ = read_mlflow("nested", uri, NAMES)
    assert trials["run_id"].tolist() == ids
    assert trials["lr"].tolist() == [0.1, 0.2]
    assert trials["params.arch"].tolist() == ["cnn", "cnn"]
    only, _ = read_mlflow("nested", uri, NAMES, filter="params.`train.bs` = '8'")
    assert only["lr"].tolist() == [0.1]  # though the filter does not match the parent
    wanted = Wanted(("eval/loss",), only_trials=False, filter="params.`train.bs` = '8'")
    for read in (read_database, read_client):
        stored = read("nested", uri, wanted)
        inherited = stored.params[~stored.params["run_id"].isin(stored.runs["run_id"])]
        assert set(inherited["key"]) >= {"arch", "opt/lr"}


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        ([(1, math.nan), (2, math.nan)], "all 2 finished trials diverged"),
        ([(0, 2.0), (0, 1.5), (0, 1.0)], "metric eval/loss was logged without steps"),
        ([(100, 1.0)], "every run has a single evaluation of metric eval/loss"),
        ([(1, 0.1), (2, 0.5), (4, 0.9)], "metric eval/loss rises in 2 of 2 runs .from 0.1 to 0.9"),
    ],
)
def test_losses_that_cannot_say_when_a_target_was_reached(
    uri: str, loss: list[tuple[int, float]], says: str
) -> None:
    write_foreign(uri, "theirs", [run(8, loss), run(16, loss)])
    with pytest.raises(AnalysisError, match=says) as told:
        analyse(*read_mlflow("theirs", uri, NAMES), targets=[0.5])
    assert "\n" not in str(told.value)


def test_a_loss_of_unfinished_runs_alone_is_none(uri: str) -> None:
    without = ({"train.bs": 8, "opt/lr": 0.1}, {"size": [(0, 50.0)]}, "FINISHED")
    write_foreign(uri, "theirs", [without, run(16, status="FAILED")])
    with pytest.raises(AnalysisError, match="metric eval/loss has no usable value in any run"):
        read_mlflow("theirs", uri, NAMES)


@pytest.mark.long
def test_another_metric_of_a_study_of_ours(uri: str, small_study: Frames) -> None:
    trials, curves = small_study
    trials = trials[trials["seed"] == 0]  # a few will do
    own = trials.assign(**{"budget.max_steps": trials["batch_size"] % 7 + trials["seed"]})
    write_study(uri, STUDY_NAME, own, curves)
    (trial, *_) = read_study(STUDY_NAME, uri)
    assert "budget.max_steps" in trial
    theirs, _ = read_mlflow(STUDY_NAME, uri, {"loss": "train_loss"})
    assert theirs.attrs["group_by"] == []
    assert theirs.attrs["left_out"] == []  # of the sweep's own run nothing is said
    assert theirs["irreducible_loss"].isna().all()  # it was that of the held-out loss
    assert sorted(theirs["batch_size"]) == sorted(trials["batch_size"])
    with pytest.raises(AnalysisError, match=r"metric examples rises in \d+ of \d+ runs"):
        read_mlflow(STUDY_NAME, uri, {"loss": "examples"})
