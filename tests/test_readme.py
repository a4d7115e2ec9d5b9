"""What the READMEs show is what runs: their own commands, files and links."""

from __future__ import annotations

import csv
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from scaling.commands import MODULES
from tests.analysis.planted_final_losses import hyperbolas
from tests.analysis.read.folder.planted import tensorboard
from tests.command_line import console
from tests.scaling.data.archives import batches, write_folder
from tests.scaling.ranks import printed_by_ranks
from tests.sweeps.in_process import command as in_process

if TYPE_CHECKING:
    from mlflow import MlflowClient

ROOT = Path(__file__).parent.parent
READMES = [
    "README.md",
    *(f"{room}/README.md" for room in ("conf", "scaling", "sweeps", "analysis", "tests")),
    "tests/benchmarks/README.md",
]
ELSEWHERE = {  # what is not run here, and where it is
    "make": "the other tests and .ci/run are what it does",
    "pip": "test_quickstart installs a wheel",
    "mlflow": "test_browsing starts it",
    "export": "tests/stores use the stores",
    "eval": "tests/sweeps/test_command.py completes",
    "torchrun": "test_loops_of_ones_own starts the ranks",
    "python": "what it starts takes long; its module is looked up here",
}
DIAGRAM = ("conf ──", "what  ", "to ask  ")
# What is made smaller before it is run: by the command's beginning, and what is said differently.
SMALLER = {
    "sweep -m study=optimizers_colourization": "seed=0 batch_size=16,64 hydra.sweeper.lr_ratio=2"
    " hydra.sweeper.stride=1 data.train_images=64 data.held_out_images=30 data.num_colours=4"
    " budget.max_steps=20 targets=[1.4]",
    "sweep -m study=pool_vs_transpose": "data.path=batches data.palette=palette.csv"
    " model=unet budget.max_steps=8 model.num_filters=2",
    "sweep -m hydra/sweeper=frontier hydra.sweeper.tune_for=final_loss": "seed=range(0,2)"
    " hydra.sweeper.lr_ratio=1.41 hydra.sweeper.stride=2",
    "sweep -m task=colourization optimizer=adamw": "data.train_images=64 data.held_out_images=30"
    " data.num_colours=4 budget.max_steps=8",
    "sweep -m study=language_model_small": "seed=0 batch_size=8,32 hydra.sweeper.lr_ratio=2"
    " hydra.sweeper.stride=1 data.sequence_length=8 model.width=8 targets=[3.5]",
    "sweep task=language_model data.path": "data.sequence_length=8 model.depth=1 model.width=8"
    " targets=[4] budget.max_steps=20",
    "sweep -m study=linear_regression_grid": "batch_size=1,4,16,64,256,1024 seed=range(0,2)",
    "sweep -m study=linear_regression sweep.probe": "batch_size=1,64",
    "sweep -m study=linear_regression hydra.launcher.executor=slurm": "sweep.dry_run=true",
    "report study=colours": "n_bootstrap=10",
    "report study=pool_vs_transpose": "n_bootstrap=10",
    "report source.experiment=theirs": "targets=[0.5]",
    "report source=mlperf": "n_bootstrap=100",
    "register study=colours": "batch_size=16",
}
# Made smaller: no critical batch size.
UNANSWERED = ("raw", "linear_regression", "colours", "pool_vs_transpose", "lengths")
SMALL = "batch_size=1,4,16,64 seed=range(0,2) hydra.sweeper.stride=2 hydra.sweeper.lr_ratio=1.5"
BEFORE = {  # what a README takes for done
    "sweeps/README.md": [
        "sweep -m study=optimizers_colourization optimizer=adam study.predictions=[]"
        " save_models=true study.name=colours",
        f"sweep -m study=linear_regression relative_targets=[0.3] {SMALL}",
    ],
    "analysis/README.md": [
        f"sweep -m study=linear_regression relative_targets=[0.3] {SMALL}",
        *(
            f"sweep -m hydra/sweeper=frontier optimizer={optimizer} relative_targets=[0.1] {SMALL}"
            f" study.name={name}"
            for name, optimizer in (("found", "sgd"), ("asgd", "nesterov"))
        ),
    ],
}


def text_of(readme: str) -> str:
    return (ROOT / readme).read_text()


def blocks(readme: str) -> Iterator[tuple[str, str, str]]:
    """Fenced blocks: the name of a file that stands before it, its language, its text."""
    pattern = r"(?:`([\w/]+\.\w+)`[^`]*)?\n```(\w+)\n(.*?)```"
    yield from re.findall(pattern, text_of(readme), re.DOTALL)


def shown(readme: str) -> list[list[str]]:
    """The commands of the indented lines, without the name of the project's own."""
    text = re.sub(r"```.*?```", "", text_of(readme), flags=re.DOTALL)
    lines = re.findall(r"^ {4}(\w.*)$", text, re.MULTILINE)
    words = [shlex.split(line, comments=True) for line in lines if not line.startswith(DIAGRAM)]
    return [line[1:] if line[0] == "batch-scaling" else line for line in words]


def changed(words: list[str]) -> list[str]:
    """The command as it is run: smaller, and with values that only a run can know."""
    line = " ".join(words)
    changes = " ".join(text for begin, text in SMALLER.items() if line.startswith(begin))
    new = {change.split("=")[0]: change for change in changes.split()}
    kept = [new.pop(word.split("=")[0], word) for word in words]
    return [*kept, *new.values()]


def commands(readme: str) -> list[list[str]]:
    return [words for words in shown(readme) if words[0] in MODULES]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the READMEs' commands read: their own files, and a user's data."""
    for readme in READMES:
        for name, _, text in blocks(readme):
            if name and not (tmp_path / name).exists():
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text)
    write_folder(tmp_path / "batches", batches())
    with (tmp_path / "palette.csv").open("w", newline="") as file:
        rows = np.random.default_rng(0).uniform(size=(24, 3)).round(3).tolist()
        csv.writer(file).writerows([["r", "g", "b"], *rows])
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["bs", "lr", "seed", "step", "val_loss"], *curves()])
    tensorboard(tmp_path / "logs")
    (tmp_path / "books").mkdir()
    for readme in READMES:
        (tmp_path / "books" / readme.replace("/", "_").replace(".md", ".txt")).write_text(
            text_of(readme)
        )
    runs = hyperbolas(np.random.default_rng(1), n_seeds=1, sizes=(8, 32, 128, 512))
    runs.rename(columns={"loss": "val_loss"}).to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path


def curves() -> list[list[float]]:
    """Of a user: S(B) = 20 + 1000/B at the target 0.5, at the best of three lrs."""
    noise = np.random.default_rng(1)
    rows: list[list[float]] = []
    for size in (4, 8, 16, 32, 64, 128, 256, 512):
        for lr in (0.09, 0.1, 0.11):
            for seed in range(3):
                steps = (20 + 1000 / size) * (1 + 10 * abs(lr - 0.1)) * noise.uniform(0.97, 1.03)
                at = np.unique(np.geomspace(1, 4 * steps, 40).round())
                losses = 2 / (1 + 3 * at / steps)
                rows += [
                    [size, lr, seed, step, loss] for step, loss in zip(at, losses, strict=True)
                ]
    return rows


def log_theirs(folder: Path) -> None:
    """The same curves as another project's experiment in MLflow."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    log_ablations(client)
    experiment = client.create_experiment("theirs")
    runs: dict[tuple[float, ...], list[list[float]]] = {}
    for size, lr, seed, step, loss in curves():
        if seed == 0:
            runs.setdefault((size, lr), []).append([step, loss])
    for (size, lr), points in runs.items():
        run_id = client.create_run(experiment).info.run_id
        params = [Param("train.bs", f"{size:g}"), Param("lr", str(lr))]
        metrics = [Metric("eval/loss", loss, 0, int(step)) for step, loss in points]
        client.log_batch(run_id, metrics, params)
        client.set_terminated(run_id)


def log_ablations(client: MlflowClient) -> None:
    """Final losses, each after the loss on the way there."""
    from mlflow.entities import Metric, Param

    experiment = client.create_experiment("ablations")
    table = hyperbolas(
        np.random.default_rng(1), n_seeds=1, n_lrs=5, spacing=2, sizes=(8, 32, 128, 512)
    )
    for row in table.to_dict("records"):
        run_id = client.create_run(experiment).info.run_id
        params = [Param("train.bs", f"{row['batch_size']:g}"), Param("lr", str(row["lr"]))]
        metrics = [Metric("eval/loss", 2 * row["loss"], 0, 1)]
        metrics += [Metric("eval/loss", row["loss"], 1, int(row["steps"]))]
        client.log_batch(run_id, metrics, params)
        client.set_terminated(run_id)


@pytest.mark.parametrize("readme", READMES)
def test_every_shown_line_is_a_command_that_exists(readme: str) -> None:
    for words in shown(readme):
        assert words[0] in MODULES or words[0] in ELSEWHERE, words
    for module in re.findall(r"python\s-m\s(\w[\w.]*\w)(?![\w.])", text_of(readme)):
        path = ROOT / module.replace(".", "/")
        is_module = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
        assert is_module or module == "pytest", module


@pytest.mark.parametrize("readme", READMES)
def test_links_lead_somewhere(readme: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text_of(readme)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        page = (ROOT / readme).parent / path if path else ROOT / readme
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in project["authors"]
    ]


SWEEPS = [
    words
    for readme in READMES
    for words in commands(readme)
    if words[0] == "sweep" and "sweep.probe=true" not in words  # which no dry run stops
]


@pytest.mark.long
@pytest.mark.parametrize("words", SWEEPS, ids=[str(number) for number in range(len(SWEEPS))])
def test_sweeps_would_start(words: list[str], folder: Path) -> None:
    """As it is shown, but that it trains nothing."""
    arguments = [word.replace("/data/cifar-10-batches-py", "batches") for word in words[1:]]
    arguments = [word.replace("/data/horse_palette_24.csv", "palette.csv") for word in arguments]
    local = [word for word in arguments if not word.startswith("hydra.launcher.")]
    done = in_process([*local, "sweep.dry_run=true"], folder, limit_seconds=60)
    assert done.code == 0, done.stderr
    assert "to do" in done.stdout


LONGER = [pytest.param(name, marks=pytest.mark.long) for name in ("curves_csv", "theirs")]


@pytest.mark.parametrize("source", ["steps_csv", *LONGER])
def test_existing_runs_are_answered(source: str, folder: Path) -> None:
    if source == "theirs":
        log_theirs(folder)
    [words] = [words for words in commands("README.md") if source in " ".join(words)]
    done = in_process([*words[1:], "n_bootstrap=100"], folder, "analysis", limit_seconds=60)
    assert done.code == 0, done.stderr
    assert "balanced:" in done.stdout


def test_in_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    [code] = [text for _, language, text in blocks("analysis/README.md") if language == "python"]
    names: dict = {}
    exec(code, names)
    [fit] = names["result"].fits
    assert fit.critical_batch_size == pytest.approx(50, rel=0.1)
    assert (folder / "reports/mine/report.html").exists()


LOOPS = {"plain.py": 1, "accumulate.py": 1, "data_parallel.py": 2}


LONG_LOOPS = [
    pytest.param(name, marks=pytest.mark.long) for name in ("plain.py", "data_parallel.py")
]


@pytest.mark.parametrize("name", ["accumulate.py", *LONG_LOOPS])
def test_loops_of_ones_own(name: str, folder: Path) -> None:
    """They see the same data at the same stage of training, so their intervals meet."""
    first, *others = printed_by_ranks([str(folder / name)], cwd=folder, n_ranks=LOOPS[name])
    found = eval(first, {"nan": float("nan")})
    assert not any(others)
    assert found["n_steps"] == (20 if name == "plain.py" else 64)
    assert 40 < found["noise_scale"] < 160
    assert found["low"] < 90
    assert found["high"] > 70


def start(words: list[str], folder: Path) -> str:
    done = console(*changed(words), cwd=folder)
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("readme", [readme for readme in READMES if commands(readme)])
def test_commands_run_and_answer(readme: str, folder: Path) -> None:
    log_theirs(folder)
    for line in BEFORE.get(readme, []):
        start(shlex.split(line), folder)
    for words in commands(readme):
        if words == ["all"] or (readme == "README.md" and "study=linear_regression" in words):
            continue  # 25 minutes; a dry run is above
        words = [word.replace("<id>", a_run(folder)) for word in words]
        printed = start(words, folder)
        if "source.show=true" in words:
            assert "metrics: step, time, eval_loss" in printed
            continue
        study = " ".join(words).partition(" study=")[2].split(" ")[0]
        if words[0] == "report" and "all=" not in words[1] and study not in UNANSWERED:
            assert "No batch size can be recommended" not in printed, words
            assert "compare" in words[1] or "critical batch size" in printed, words
        if words == ["report", "study=digits"]:
            is_as_shown(printed)


def a_run(folder: Path) -> str:
    """The id of a finished trial, as MLflow's pages show it."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name("found")
    if found is None:
        return ""
    wanted = "tags.kind = 'trial' and attributes.status = 'FINISHED'"
    return client.search_runs([found.experiment_id], wanted, max_results=1)[0].info.run_id


def is_as_shown(printed: str) -> None:
    """The README's own search, in full; bits differ between processors."""
    [answer] = [text for _, language, text in blocks("README.md") if language == "text"]
    (number,) = re.findall(r"loss of 0\.5: ([\d.]+)", printed)
    (expected,) = re.findall(r"loss of 0\.5: ([\d.]+)", answer)
    assert float(number) == pytest.approx(float(expected), rel=0.3)
    for name in ("critical batch size", "economical:", "balanced:"):
        assert answer.count(f"{name}") == printed.count(f"\n{name}") == 1
