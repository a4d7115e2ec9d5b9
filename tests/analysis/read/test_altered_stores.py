"""A store whose params or tags somebody changed: a report, or one line that says what is wrong."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import analyse
from analysis.errors import AnalysisError
from analysis.read.runs import read_study
from analysis.report.predictions import check_predictions, predictions_of
from analysis.report.published import compare_published, published_of
from tests.analysis.conftest import STUDY_NAME, Frames
from tests.analysis.read.stored import new_store, write_study
from tests.sweeps.in_process import command

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
BOUNDED = settings(deadline=None, database=None, suppress_health_check=SLOW, print_blob=True)
VALUES = [
    "",
    "many",
    "nan",
    "inf",
    "-1",
    "0",
    "1e999",
    "1.5",
    "[1",
    "[]",
    "{}",
    "null",
    '"x"',
    "None",
]
VALUES += ['[1, "a"]', "[[1]]", "[NaN]", "[1e999]", "9" * 400, "x" * 3000, "a\nb", "True", "[{}]"]
VALUES += ['[{"says": 1}]', '[{"metric": "loss", "at": "last", "equals": "?", "tolerance": 1}]']
PARAMS = ["batch_size", "lr", "seed", "model_size", "initial_loss", "irreducible_loss", "targets"]
PARAMS += ["task.name", "task.dimension", "task.spectrum_exponent", "task.label_noise", "new.param"]
PARAMS += ["task.inputs", "optimizer.name", "optimizer.momentum"]
TAGS = ["outcome", "last_step", "seconds", "trial_id", "sweep", "kind", "round", "setting"]
SWEEP_TAGS = ["predictions", "published", "report", "question", "search_rounds", "tuned_cells"]
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("params"), st.sampled_from(PARAMS), st.sampled_from([*VALUES, None]),
                  st.booleans()),
        st.tuples(st.just("tags"), st.sampled_from(TAGS), st.sampled_from([*VALUES, None]),
                  st.booleans()),
        st.tuples(st.just("sweep"), st.sampled_from(SWEEP_TAGS), st.sampled_from(VALUES),
                  st.just(True)),
    ),
    min_size=1,
    max_size=2,
)  # fmt: skip
Change = tuple[str, str, str | None, bool]


@pytest.fixture(scope="module")
def small(small_study: Frames, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a third of the small study."""
    folder = tmp_path_factory.mktemp("altered")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    trials, curves = small_study
    few = trials[(trials["seed"] == 0) & (trials["lr"] > 0.02)]
    write_study(new_store(folder), STUDY_NAME, few, curves[curves["run_id"].isin(few["run_id"])])
    return folder / "mlflow.db"


def alter(path: Path, changes: list[Change]) -> None:
    """Of the first trial or of all: a value replaced, added or (None) taken away."""
    with sqlite3.connect(path) as connection:
        kinds = dict(connection.execute("SELECT run_uuid, value FROM tags WHERE key = 'kind'"))
        for table, key, value, of_all in changes:
            runs = [run for run, kind in kinds.items() if (kind == "sweep") == (table == "sweep")]
            for run in sorted(runs)[: None if of_all else 1]:
                name = "params" if table == "params" else "tags"
                where = f"FROM {name} WHERE run_uuid = ? AND key = ?"
                connection.execute(f"DELETE {where}", (run, key))
                if value is not None:
                    connection.execute(
                        f"INSERT INTO {name} (key, value, run_uuid) VALUES (?, ?, ?)",
                        (key, value, run),
                    )
    connection.close()


def read(path: Path) -> None:
    trials, curves = read_study(STUDY_NAME, f"sqlite:///{path}")
    result = analyse(trials, curves, n_bootstrap=2, seed=0)
    sweeps = trials.attrs["sweeps"]
    check_predictions(result, predictions_of(sweeps))
    compare_published(result.trials, result.curves, published_of(sweeps))


def said_of(path: Path) -> str:
    try:
        read(path)
    except AnalysisError as error:
        return str(error)
    return ""


ALTERED: dict[str, Change] = {
    "params": ("params", "model_size", "many", False),
    "seed": ("params", "seed", "first", False),
    "fraction": ("params", "seed", "0.5", False),
    "initial": ("params", "initial_loss", "x", True),
    "batch_size": ("params", "batch_size", "0", False),
    "lr": ("params", "lr", "-1", False),
    "targets": ("params", "targets", "[1", False),
    "numbers": ("params", "targets", '["a"]', False),
    "dimension": ("params", "task.dimension", "many", True),
    "noise": ("params", "task.label_noise", "[{}]", False),
    "round": ("tags", "round", "inf", False),
    "seconds": ("tags", "seconds", "1e999", True),
    "predictions": ("sweep", "predictions", "[{", True),
    "no list": ("sweep", "predictions", '{"a": 1}', True),
    "published": ("sweep", "published", "[1", True),
}


@pytest.mark.parametrize("name", ALTERED)
def test_what_was_altered_is_named(name: str, small: Path, tmp_path: Path) -> None:
    change = ALTERED[name]
    alter(Path(shutil.copy(small, tmp_path)), [change])
    said = said_of(tmp_path / "mlflow.db")
    assert change[1] in said
    assert str(change[2]) in said
    assert "\n" not in said


@settings(BOUNDED, max_examples=8, derandomize=True)
@given(CHANGES)
def test_altered_stores(
    small: Path, tmp_path_factory: pytest.TempPathFactory, changes: list[Change]
) -> None:
    path = Path(shutil.copy(small, tmp_path_factory.mktemp("altered")))
    alter(path, changes)
    said = said_of(path)
    assert "\n" not in said
    assert len(said) < 1500


@pytest.mark.long
@settings(BOUNDED, max_examples=15, derandomize=True)
@given(CHANGES)
def test_altered_stores_through_the_command(
    small: Path, tmp_path_factory: pytest.TempPathFactory, changes: list[Change]
) -> None:
    path = Path(shutil.copy(small, tmp_path_factory.mktemp("altered")))
    alter(path, changes)
    words = [
        f"study={STUDY_NAME}",
        f"tracking_uri=sqlite:///{path}",
        "n_bootstrap=2",
        "attach=false",
    ]
    done = command(words, path.parent, "analysis", limit_seconds=120)
    assert done.code in (0, 2), done.stderr
    assert "Traceback" not in done.stderr
    if done.code:
        assert done.lines == 1, done.stderr


def test_the_store_before_it_is_altered(small: Path) -> None:
    assert said_of(small) == ""
