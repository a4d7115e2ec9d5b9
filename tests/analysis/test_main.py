"""`python -m analysis` from end to end, as a user runs it, in a directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from analysis.__main__ import AnalysisConfig, report
from analysis.errors import AnalysisError
from tests.analysis.conftest import STUDY_NAME

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
    assert lines[-1].endswith(f"mlflow ui --backend-store-uri sqlite:///{work}/mlflow.db")
    assert "attached to run" in done.stdout
    assert [line.split(":")[0] for line in lines[-5:-2]] == ["economical", "balanced", "fast"]
    assert f"python -m analysis study={STUDY_NAME} n_bootstrap=20" in page.read_text()
    summary = json.loads((page.parent / "summary.json").read_text())
    assert summary["study"] == "small"
    assert len(summary["fits"]) == 2


def _config(**changes: Any) -> AnalysisConfig:
    return OmegaConf.structured(
        AnalysisConfig(**{"study": STUDY_NAME, "n_bootstrap": 10, **changes})
    )


def test_options_and_a_store_that_refuses_the_note(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.figures.style.FORMATS", ("svg",))
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
    warned = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
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


@pytest.mark.parametrize("argument", ["stud=x", "n_bootstrap=many"])
def test_hydra_refuses_unknown_keys_and_wrong_types(work: Path, argument: str) -> None:
    done = run_analysis(work, f"study={STUDY_NAME}", argument)
    assert done.returncode != 0
    assert argument.split("=")[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, analysis.__main__, analysis.report, analysis.runs, analysis.attach; "
        "print({'torch', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
