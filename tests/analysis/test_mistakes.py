"""What people get wrong on the report's command line: one line, exit code 2, nothing is created."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient

from analysis.command_line import as_meant
from analysis.commands import free_port
from tests.analysis.read.odd_tables import good
from tests.sweeps.in_process import command

CSV = "source=curves_csv source.path=t.csv"
MISTAKES = {  # a line, and how what is said begins
    "stud=x": "there is no option stud; did you mean study?",
    "source.pth=x": "there is no option source.pth; did you mean source.path?",
    "batch_size=64 study=small": "there is no option batch_size; there are study, compare, ",
    "+foo=3 study=small": "+foo=3: is not an option",
    "study=smal": "study=smal: no experiment of this name in sqlite:///",
    "study=gone": "study=gone: no experiment of this name in sqlite:///",
    "source.experiment=theirz": "source.experiment=theirz: no experiment of this name in sqlite://",
    "source.experiment=theirs": "source.columns.loss=loss: no run has a metric of this name",
    f"{CSV} source.columns.step=steps": "source.columns.step=steps: source.path=t.csv has no such",
    "source=curve_csv": "source=curve_csv: must be one of mlflow, folder, curves_csv, steps_csv",
    "source=curves_csv source.path=nope.csv": "source.path=nope.csv: there is no such file",
    "source.path=t.csv": "source.path=t.csv: files are read by source=curves_csv,",
    "source=steps_csv": "source.path: missing; source=steps_csv reads a CSV",
    "compare=small": "compare=[small]: needs two or more different studies, compare=[a,b]",
    "compare=small,smal": "study=smal: no experiment of this name in sqlite:///",
    "study=a,b": "study=a,b: must be one value; compare=[a,b] compares studies",
    "study=range(0,3)": "study=range(0,3): must be one value; compare=[a,b] compares studies",
    "all=a,b": "all=[a,b]: reports has no report of any of them",
    "study=small targets=abc": "targets=[abc]: must be a number",
    "study=small n_bootstrap=0": "n_bootstrap=0: must be at least 1",
    "study=small n_bootstrap=many": "n_bootstrap=many: must be a whole number",
    "study=small attach=perhaps": "attach=perhaps: ",
    "study=small figures.style=nope": "figures.style=nope: must be one of screen, paper",
    "study=small figures.formats=[svg,gif]": "figures.formats=gif: must be among svg, png, pdf",
    "study=${oc.env:NOPE}": "the environment variable NOPE is not set",
    "study": "study: cannot be read as option=value",
    "study=x source.filter=((": "source.filter=((: cannot be read as option=value",
    "-m study=small": "-m: a report is one run; compare=[a,b] compares studies",
    "--nope": "unrecognized arguments: --nope; python -m analysis --help",
    "--cfg nope": "argument --cfg/-c: invalid choice: 'nope'",
    "hydra.run.dir=x study=small": "hydra.run.dir=x: Hydra's options do not apply to reports",
    "study=x tracking_uri=http://127.0.0.1:9": "tracking_uri=http://127.0.0.1:9: cannot be read as "
    "an MLflow store (nothing answers at this host and port)",
    "study=x tracking_uri=http://me@corp:SECRET@127.0.0.1:9": "tracking_uri=http://me@corp:***@127",
    "study=x tracking_uri=nonsense://x": "tracking_uri=nonsense://x: cannot be read as an MLflow",
}  # fmt: skip


@pytest.fixture(scope="module")
def work(stores_of_examples: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a store that has a study, other people's runs, a deleted study."""
    folder = tmp_path_factory.mktemp("mistakes")
    shutil.copy(stores_of_examples.removeprefix("sqlite:///"), folder / "mlflow.db")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    client.delete_experiment(client.create_experiment("gone"))
    good("curves_csv").to_csv(folder / "t.csv")
    return folder


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(line: str, work: Path) -> None:
    done = command(line.split(), work, "analysis")
    assert done.code == 2, done.stderr
    assert done.stderr.startswith(f"error: {MISTAKES[line]}"), done.stderr
    assert done.lines == 1, done.stderr
    assert not done.created
    assert "SECRET" not in done.stderr
    assert "urllib3" not in done.stderr
    assert "HTTPConnection" not in done.stderr


def test_hints_are_of_what_there_is(work: Path) -> None:
    assert "did you mean small?" in command(["study=smal"], work, "analysis").stderr
    assert "mlflow experiments restore" in command(["study=gone"], work, "analysis").stderr
    columns = command([*CSV.split(), "source.columns.step=steps"], work, "analysis").stderr
    assert "There are batch_size, loss, lr, seed, step" in columns.replace("Unnamed: 0, ", "")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("compare=a,b", "compare=[a,b]"),
        ("targets=0.5", "targets=[0.5]"),
        ("targets=null", "targets=null"),
        ("tuned=[lr]", "tuned=[lr]"),
        ("source.columns.loss=eval/loss", "++source.columns.loss=eval/loss"),
        ("study=a,b", "study=a,b"),
    ],
)
def test_what_is_meant(word: str, meant: str) -> None:
    assert as_meant(word) == meant


def test_another_port_where_it_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert free_port(port) not in (port, 0)
    assert free_port(port) == port
