"""A recorded trial trained again: equal bits, or the difference shown, or one line why not."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from scaling.config import BudgetConfig, ScheduleConfig, StudyConfig
from scaling.store.read_back import RunReader
from scaling.tasks.config import CustomTaskConfig
from sweeps import register, repeat
from tests.scaling.trials import regression_trial
from tests.sweeps.recorded import NET, record, trial_runs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a study of regressions, one of them diverging, and one of a network."""
    folder = tmp_path_factory.mktemp("recorded")
    cosine = ScheduleConfig("cosine", total_steps=40)
    regressions = [
        regression_trial(lr=lr, seed=1, schedule=cosine, study=StudyConfig("lines"))
        for lr in (0.05, 50.0)
    ]
    record(folder, regressions)
    (folder / "recorded_net.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        networks = [
            regression_trial(
                task=CustomTaskConfig(path="recorded_net.Net"),
                budget=BudgetConfig(max_steps=30),
                study=StudyConfig("nets"),
                lr=lr,
                save_models=True,
                batch_size=8,
            )
            for lr in (0.01, 0.1)
        ]
        record(folder, networks)
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to change, as the working directory; artifacts stay where they are."""
    shutil.copy(made / "mlflow.db", tmp_path)
    shutil.copy(made / "recorded_net.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def run_id(work: Path, study: str, name: str) -> str:
    runs = trial_runs(f"sqlite:///{work}/mlflow.db", study)
    return str(next(run.info.run_id for key, run in runs.items() if key.startswith(name)))


def command(module, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    try:
        module.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_same_bits(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name, last in (("B=64 lr=0.05", "lr, loss, train_loss"), ("B=64 lr=50", "diverged_step")):
        assert command(repeat, monkeypatch, f"run_id={run_id(work, 'lines', name)}") == 0
        said = capsys.readouterr().out
        assert "the record repeats" in said
        for metric in last.split(", "):
            assert f"{metric}: " in said
        assert "differs" not in said


def test_another_number_is_shown_with_its_step(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    name = run_id(work, "lines", "B=64 lr=0.05")
    with sqlite3.connect(work / "mlflow.db") as connection:
        change = "UPDATE metrics SET value = value * 1.5 WHERE key = 'loss' AND step = ? "
        for step in (7, 9):
            connection.execute(change + "AND run_uuid = ?", (step, name))
        connection.execute(
            "UPDATE tags SET value = 'torch 1.0' WHERE key = 'versions' AND run_uuid = ?", (name,)
        )
    connection.close()
    assert command(repeat, monkeypatch, f"run_id={name}") == 1
    said = capsys.readouterr()
    assert "loss: differs from step 7 on (recorded " in said.out
    assert "largest relative difference 0.333, at step 9" in said.out
    assert "train_loss: 60" not in said.err
    assert "versions: recorded torch 1.0, now python" in said.err


def test_a_network_of_ones_own_only_by_name(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    name = f"run_id={run_id(work, 'nets', 'B=8 lr=0.01')}"
    assert command(repeat, monkeypatch, name) == 2
    assert "if you trust that code in this folder, add task.path=" in capsys.readouterr().err
    assert command(repeat, monkeypatch, name, "task.path=recorded_net.Net") == 0
    assert "loss: " in capsys.readouterr().out
    (work / "recorded_net.py").write_text(NET + "# another\n")
    sys.modules.pop("recorded_net")
    monkeypatch.setattr("scaling.tasks.custom._problems", {})
    monkeypatch.syspath_prepend(work)
    assert command(repeat, monkeypatch, name, "task.path=recorded_net.Net") == 2
    assert "the code or data of task.path=recorded_net.Net changed since" in capsys.readouterr().err
    sys.modules.pop("recorded_net")


def test_what_cannot_be_repeated(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    client = MlflowClient(f"sqlite:///{work}/mlflow.db")
    name = run_id(work, "lines", "B=64 lr=0.05")
    parent = client.get_run(name).data.tags["mlflow.parentRunId"]
    other = run_id(work, "lines", "B=64 lr=50")
    client.set_terminated(other, "FAILED")
    refused = {
        "run_id=0": "no such run in sqlite:",
        f"run_id={parent}": "is a run of kind sweep; name a trial's run",
        f"run_id={other}": "is FAILED; only a finished trial can be used",
        "run_ids=0": "did you mean run_id?",
        "0": "is not key=value",
        "tracking.uri=sqlite:///no.db run_id=0": "there is no such file",
        "tracking.uri=sqlite:///mlflow.db": "run_id: missing",
    }
    for arguments, line in refused.items():
        assert command(repeat, monkeypatch, *arguments.split()) == 2
        said = capsys.readouterr().err
        assert line in said
        assert len(said.splitlines()) == 1
    assert not (work / "no.db").exists()
    client.set_tag(name, "trial_id", "0" * 16)
    assert command(repeat, monkeypatch, f"run_id={name}") == 2
    assert "trains other numbers from the same configuration" in capsys.readouterr().err
    client.set_tag(name, "threads", "$(reboot)")
    with pytest.raises(Exception, match="is not a number"):
        repeat._threads(RunReader(client.tracking_uri).read(name))


@pytest.mark.parametrize("text", ["a: [", "text", "{task: {name: x}}", "!!python/name:os.x ''"])
def test_a_configuration_that_is_none(
    work: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    name = run_id(work, "lines", "B=64 lr=0.05")
    monkeypatch.setattr(RunReader, "artifact_text", lambda *_: text)
    assert command(repeat, monkeypatch, f"run_id={name}") == 2
    assert "its config.yaml does not fit this version" in capsys.readouterr().err


@pytest.mark.long
def test_the_best_network_of_a_cell_comes_back_from_the_registry(
    work: Path, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    uri = f"sqlite:///{work}/mlflow.db"
    own = "task.path=recorded_net.Net"
    assert command(register, monkeypatch, "study=nets", "batch_size=8", own) == 0
    assert "models:/nets/1" in capsys.readouterr().out
    runs = trial_runs(uri, "nets")
    best = min(runs.values(), key=lambda run: run.data.metrics["loss"])
    version = MlflowClient(uri).get_model_version("nets", "1")
    assert version.run_id == best.info.run_id
    assert {"study": "nets", "network": "best", "batch_size": "8"}.items() <= version.tags.items()
    assert version.tags["trial_id"] == best.data.tags["trial_id"]
    assert f"trial {best.info.run_name} of the study nets" in (version.description or "")
    assert best.data.tags["registered_model/best"] == "models:/nets/1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.syspath_prepend(work)
    model = mlflow.pyfunc.load_model("models:/nets/1")
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 3)
    inputs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    trial_id = best.data.tags["trial_id"]
    weights = torch.load(made / f"runs/nets/models/{trial_id}/best.pt", weights_only=True)
    hidden = np.tanh(inputs @ weights["0.weight"].numpy().T + weights["0.bias"].numpy())
    outputs = hidden @ weights["2.weight"].numpy().T + weights["2.bias"].numpy()
    np.testing.assert_allclose(model.predict(inputs), outputs, rtol=1e-5)
    held = MlflowClient(uri).list_artifacts(best.info.run_id, "registered/nets-best")
    assert {"registered/nets-best/MLmodel", "registered/nets-best/input_example.json"} <= {
        item.path for item in held
    }
    assert best.info.status == MlflowClient(uri).get_run(best.info.run_id).info.status


def test_what_cannot_be_registered(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    line = run_id(work, "lines", "B=64 lr=0.05")
    refused = {
        "lr=1": "give study=... (and params), or run_id=...",
        "study=none": "no experiment of this name",
        "study=linse": "error: study=linse: no experiment of this name",
        "study=net": "did you mean nets?",
        "study=lines batch_size=3": "no finished trial has batch_size=3",
        "study=lines kind=worst": "must be one of best, last",
        f"run_id={line}": "the task linear_regression has no network",
        f"run_id={line} name=../x": "error: name=../x: letters, digits",
    }
    for arguments, text in refused.items():
        assert command(register, monkeypatch, *arguments.split()) == 2
        said = capsys.readouterr().err
        assert text in said
        assert len(said.splitlines()) == 1
