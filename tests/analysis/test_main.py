"""`python -m analysis` from end to end, as a user runs it, in a directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from analysis.__main__ import report
from analysis.errors import AnalysisError
from analysis.options import AnalysisConfig, FigureConfig, SourceConfig
from tests.analysis.conftest import STUDY_NAME, Frames
from tests.analysis.read.folder.planted import lightning
from tests.analysis.read.stored import new_store, write_study

ROOT = Path(__file__).parents[2]


def run_analysis(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    inherited = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    path = os.pathsep.join([str(ROOT), inherited.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "analysis", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def work(tmp_path: Path, small_store: str) -> Path:
    """A directory with the store under its default name."""
    store = Path(small_store.removeprefix("sqlite:///"))
    (tmp_path / "mlflow.db").write_bytes(store.read_bytes())
    return tmp_path


def test_report_with_defaults(work: Path) -> None:
    done = run_analysis(work, f"study={STUDY_NAME}", "n_bootstrap=20")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in work.iterdir()} == {"mlflow.db", "reports"}
    page = work / "reports" / STUDY_NAME / "report.html"
    lines = done.stdout.splitlines()
    assert f"report: {page}" in lines
    store = f"--backend-store-uri sqlite:///{work}/mlflow.db"
    [browse] = [line for line in lines if line.startswith("browse: ")]
    assert browse.endswith(f"mlflow ui --host 127.0.0.1 {store}")
    pages = [line.partition(":")[0].strip() for line in lines[lines.index(browse) + 1 :]]
    assert pages == ["trials", "loss vs steps", "loss vs examples", "frontier", "report"]
    assert "attached to run" in done.stdout
    [critical] = [i for i, line in enumerate(lines) if line.startswith("critical batch size for")]
    named = [line.split(":")[0] for line in lines[critical + 1 : critical + 4]]
    assert named == ["economical", "balanced", "fewest steps"]
    warned = [line for line in lines if line.startswith("warning: ")]
    summary = json.loads((page.parent / "summary.json").read_text())
    assert [line.removeprefix("warning: ") for line in warned] == summary["warnings"]
    assert f"python -m analysis study={STUDY_NAME} n_bootstrap=20" in page.read_text()
    summary = json.loads((page.parent / "summary.json").read_text())
    assert summary["study"] == "small"
    assert len(summary["fits"]) == 2


def _config(**changes: Any) -> AnalysisConfig:
    return OmegaConf.structured(
        AnalysisConfig(**{"study": STUDY_NAME, "n_bootstrap": 10, **changes})
    )


@pytest.mark.long
def test_options_and_a_store_that_refuses_the_note(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = (work / "mlflow.db").rename(work / "other.db")
    with contextlib.closing(sqlite3.connect(store)) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON tags BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
        database.commit()
    config = _config(
        tracking_uri=f"sqlite:///{store}",
        output_dir=str(work / "out"),
        targets=[0.5],
        group_by=["task.dimension"],
    )
    assert report(config, []) == work / "out" / "report.html"
    warned = [line for line in capsys.readouterr().out.splitlines() if "] warning: " in line]
    assert len(warned) == 1
    assert "warning: not attached: " in warned[0]
    assert "no room" in warned[0]
    summary = json.loads((work / "out" / "summary.json").read_text())
    assert [fit["target_loss"] for fit in summary["fits"]] == [0.5]
    assert [fit["group"] for fit in summary["fits"]] == [{"task.dimension": 16}]
    assert {path.name for path in work.iterdir()} == {"other.db", "out"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"study": "???"}, "study: missing"),
        ({"study": "nothing"}, f"study=nothing: no experiment .* there: {STUDY_NAME}$"),
        ({"targets": [99.0]}, "targets: 99 must lie"),
        ({"group_by": ["nothing"]}, "group_by: no param named nothing"),
        ({"n_bootstrap": 0}, "n_bootstrap=0: must be at least 1"),
        ({"seed": -1}, "seed=-1: must not be negative"),
        ({"figures": FigureConfig("pdf")}, "figures.style=pdf: must be one of screen, paper"),
        ({"compare": ["a", "b"]}, "compare and study: give one of them"),
        ({"study": "???", "compare": ["a"]}, r"compare=\[a\]: needs two or more"),
        ({"study": "???", "compare": ["a", "a"]}, r"compare=\[a,a\]: needs two or more"),
        ({"output_dir": "mlflow.db"}, "output_dir=mlflow.db: cannot be written"),
        ({"tracking_uri": "sqlite:///no.db"}, "tracking_uri=.*no.db: there is no such file"),
    ],
)
def test_mistakes_name_the_key(
    work: Path, changes: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(AnalysisError, match=f"^{says}") as caught:
        report(_config(**changes), [])
    assert "\n" not in str(caught.value)
    assert {path.name for path in work.iterdir()} == {"mlflow.db"}


def test_a_mistake_is_one_line_and_exit_code_2(work: Path) -> None:
    done = run_analysis(work, "study=nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("error: study=nothing: no experiment")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in work.iterdir()} == {"mlflow.db"}


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("studdy=x", r"there is no option studdy; did you mean study\?"),
        ("n_bootstrap=many", "n_bootstrap=many: must be a whole number"),
        ("targets=[1", r"targets=\[1: cannot be read as option=value"),
    ],
)
def test_unknown_options_and_wrong_types_are_one_line(work: Path, argument: str, says: str) -> None:
    done = run_analysis(work, f"study={STUDY_NAME}", argument)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert re.match(f"error: .*{says}", done.stderr), done.stderr


@pytest.mark.long
def test_compare_two_studies(
    work: Path,
    small_study: Frames,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(work)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trials, curves = (frame.copy() for frame in small_study)
    few = trials[(trials["seed"] == 0) & (trials["lr"] > 0.1)].assign(**{"optimizer.name": "adam"})
    write_study(new_store(work), "other", few, curves[curves["run_id"].isin(few["run_id"])])
    config = _config(study="???", compare=[STUDY_NAME, "other"])
    assert report(config, ["compare=[small,other]"]) == Path("reports/small_vs_other/report.html")
    assert "differ in optimizer.name: sgd and adam" in capsys.readouterr().out
    summary = json.loads(Path("reports/small_vs_other/summary.json").read_text())
    assert summary["compare"] == ["small", "other"]
    assert len(summary["rows"]) == 4


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, analysis.__main__, analysis.report.report, analysis.read.runs; "
        "import analysis.report.attach; print({'torch', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


STEPS = sorted({round(5 * 1.1**k) for k in range(60)})
CURVES = "bs,learning_rate,iter,val_loss\n" + "".join(
    f"{size},{lr},{step},{(4 * (1 + 50 / size) * slower / step) ** 0.5:.6g}\n"
    for size in (4, 16, 64, 256, 1024)
    for lr, slower in ((0.1, 1.5), (0.2, 1.0), (0.4, 1.4))
    for step in STEPS
)
NAMES = ("batch_size=bs", "lr=learning_rate", "step=iter", "loss=val_loss")


@pytest.mark.long
def test_curves_of_another_project_need_no_store(tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text(CURVES)
    done = run_analysis(
        tmp_path, "source=curves_csv", "source.path=theirs.csv", "n_bootstrap=10", "targets=[0.5]",
        *(f"source.columns.{name}" for name in NAMES),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"theirs.csv", "reports"}
    summary = json.loads((tmp_path / "reports" / "theirs" / "summary.json").read_text())
    assert summary["study"] == "theirs"
    assert summary["fits"][0]["critical_batch_size"] == pytest.approx(50, rel=0.1)
    assert "browse" not in done.stdout


def test_an_experiment_of_another_project(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.analysis.read.stored import Foreign, write_foreign

    runs: list[Foreign] = []
    for size in (4, 16, 64, 256, 1024):
        loss = [(step, (4 * (1 + 50 / size) / step) ** 0.5) for step in STEPS]
        runs.append(({"train.bs": size, "lr": 0.1}, {"eval/loss": loss}, "FINISHED"))
    uri = f"sqlite:///{work / 'mlflow.db'}"
    write_foreign(uri, "theirs", runs)
    columns = {"batch_size": "train.bs", "loss": "eval/loss"}
    source = SourceConfig(experiment="theirs", columns=columns)
    config = _config(
        study="mine", tracking_uri=uri, targets=[0.5], source=source, output_dir=str(work / "out")
    )
    report(config, [])
    summary = json.loads((work / "out" / "summary.json").read_text())
    assert summary["study"] == "mine"
    assert summary["fits"][0]["critical_batch_size"] == pytest.approx(50, rel=0.1)
    assert "lr is taken" not in capsys.readouterr().out
    assert any("taken as its best" in text for text in summary["warnings"])


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("stud=x", "there is no option stud; did you mean study?"),
        ("source.pth=x", "there is no option source.pth; did you mean source.path?"),
        ("n_bootstrap=many", "n_bootstrap=many: must be a whole number"),
        (
            "source=curve_csv",
            "source=curve_csv: must be one of mlflow, folder, curves_csv, steps_csv",
        ),
        ("source.path=t.csv", "source.path=t.csv: files are read by source=curves_csv,"),
        ("source=steps_csv", "source.path: missing; source=steps_csv reads a CSV"),
    ],
)
def test_mistyped_arguments_are_one_line(tmp_path: Path, argument: str, says: str) -> None:
    done = run_analysis(tmp_path, argument)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_is_shown_and_nothing_is_written(tmp_path: Path) -> None:
    lightning(tmp_path / "logs")
    done = run_analysis(tmp_path, "source=folder", "source.path=logs", "source.show=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("logs: 24 runs of format lightning in 24 files; 24 other files\n")
    assert "  batch_size: 4, 16, 64, 256\n" in done.stdout
    assert "read: 24 trials, 264 evaluations\n" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    (tmp_path / "logs" / "version_3" / "hparams.yaml").unlink()
    done = run_analysis(tmp_path, "source=folder", "source.path=logs", "source.show=true")
    assert "  lr: 0.05, 0.1, 0.2 (missing in 1)\n" in done.stdout
    assert "missing: source.path=logs/version_3/metrics.csv: run version_3 has no batch_size" in (
        done.stdout
    )
    done = run_analysis(tmp_path, "source=folder", "source.path=logs")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
