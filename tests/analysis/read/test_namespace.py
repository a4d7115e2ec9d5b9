"""Columns of other projects that are called as one of ours: every name that the code has."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import StudyResult
from analysis.read.steps import STEP_COLUMNS
from analysis.read.trials import OF_A_CURVE, OF_A_TRIAL
from analysis.report.report import write_report
from analysis.source import Choice, analyse_source, read_source
from tests.analysis.read.stored import new_store, write_foreign

CURVE_INPUTS = {*OF_A_TRIAL, *OF_A_CURVE, "step_seconds"} - {"model_size"}
STEP_INPUTS = {*STEP_COLUMNS, "step_seconds", "flops_per_example"}
SIZES = [4, 16, 64, 256, 1024]
NAME = re.compile(r"[a-z][a-z0-9_./]*")


def steps_to_target(size: int, value: int) -> float:
    """Planted: the critical batch size is 50 in group 10 and 100 in group 20."""
    return 80 + 400 * value / size


def curves() -> pd.DataFrame:
    rows = []
    for value in (10, 20):
        for size in SIZES:
            to_target = steps_to_target(size, value)
            steps = np.unique(np.geomspace(1, 2.2 * to_target, 60).astype(int))
            loss = 2 / (1 + 3 * steps / to_target)
            rows += [(value, size, 0.1, *point) for point in zip(steps, loss, strict=True)]
    return pd.DataFrame(rows, columns=["value", "batch_size", "lr", "step", "loss"])


def in_collections(value: object) -> Iterable[str]:
    """The texts in a constant, whatever it is made of."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, tuple, list, set, frozenset)):
        for part in value:
            yield from in_collections(part)
        if isinstance(value, Mapping):
            yield from in_collections(list(value.values()))


def names_in(path: Path) -> Iterable[str]:
    """Texts that may be a column in this file: an index, a key of a dict, a keyword of assign."""
    for node in ast.walk(ast.parse(path.read_text())):
        parts: list[Any] = []
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("assign", "agg"):
            yield from (keyword.arg for keyword in node.keywords if keyword.arg)
        if isinstance(node, ast.Subscript):
            parts = [*getattr(node.slice, "elts", [node.slice])]
        if isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        yield from (part.value for part in parts if isinstance(getattr(part, "value", 0), str))


@pytest.fixture(scope="session")
def internal_names(small_result: StudyResult) -> list[str]:
    """Every column of a study's frames, tables and figures, constant and key in the code."""
    names: set[str] = set()
    frames = [value for value in vars(small_result).values() if isinstance(value, pd.DataFrame)]
    frames += [
        *small_result.frames.values(),
        *(drawing.table for drawing in small_result.drawings()),
    ]
    for frame in frames:
        names |= set(map(str, frame.columns))
    names |= set(vars(small_result)) | set(small_result.fits[0].summary())
    folder = Path(analysis.__path__[0])
    for module in pkgutil.walk_packages([str(folder)], "analysis."):
        if not module.name.endswith("__main__"):
            constants = vars(importlib.import_module(module.name)).items()
            names |= {t for key, v in constants if key.isupper() for t in in_collections(v)}
    for path in folder.rglob("*.py"):
        names |= set(names_in(path))
    return sorted(name for name in names if NAME.fullmatch(name))


def test_the_names_are_found(internal_names: list[str]) -> None:
    known = {
        "model_size", "steps", "x", "y", "target_loss", "n_seeds", "lr_at_edge", "seconds", "sweep",
        "status", "study", "last_step", "compared", "ci95", "group", "name", "rule", "form",
        "steps_low", "task.name", "optimizer.name", "parameters", "run", "trial_id",
    }  # fmt: skip
    assert known <= set(internal_names)
    assert len(internal_names) > 200


def read(
    kind: str, folder: Path, store: Path, names: list[str], group_by: list[str] | None
) -> StudyResult:
    """Runs with columns `names`, each 10 in one half and 20 in the other, read and analysed."""
    table = curves()
    theirs = pd.DataFrame(dict.fromkeys(names, table["value"]))
    choice: dict[str, Any] = {"targets": [0.5], "group_by": group_by, "study": "theirs"}
    if kind == "mlflow":
        (folder / "mlflow.db").write_bytes(store.read_bytes())
        runs = [
            (
                {"batch_size": size, "lr": 0.1} | dict.fromkeys(names, value),
                {"loss": list(zip(own["step"], own["loss"], strict=True))},
                "FINISHED",
            )
            for (value, size), own in table.groupby(["value", "batch_size"])
        ]
        write_foreign(new_store(folder), "theirs", runs)
        choice |= {"tracking_uri": new_store(folder), "experiment": "theirs"}
    else:
        if kind == "steps_csv":
            table = table.drop_duplicates(["value", "batch_size"]).drop(columns=["step", "loss"])
            pairs = zip(table["batch_size"], table["value"], strict=True)
            table["steps"] = [steps_to_target(size, value) for size, value in pairs]
            choice["targets"] = None
        frame = pd.concat([theirs.loc[table.index], table.drop(columns="value")], axis=1)
        frame.to_csv(folder / "theirs.csv", index=False)
        choice |= {"path": str(folder / "theirs.csv")}
    asked = Choice(kind=kind, **choice)
    return analyse_source(read_source(asked), asked, n_bootstrap=5)


def critical(result: StudyResult) -> list[float]:
    return [fit.critical_batch_size or np.nan for fit in result.fits]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:DataFrame is highly fragmented")  # hundreds of group columns
@pytest.mark.parametrize(
    "kind",
    ["curves_csv", "steps_csv", "mlflow"],
)
def test_no_name_meets_a_column_of_ours(
    kind: str, tmp_path: Path, empty_store: Path, internal_names: list[str]
) -> None:
    documented = STEP_INPUTS if kind == "steps_csv" else CURVE_INPUTS
    names = [name for name in internal_names if name not in documented]
    result = read(kind, tmp_path, empty_store, names, names)
    assert critical(result) == pytest.approx([50, 100], rel=0.05)
    for fit, value in zip(result.fits, ("10", "20"), strict=True):
        assert set(fit.group) == {f"params.{name}" for name in names}
        assert {str(v) for v in fit.group.values()} == {value}
    for name, frame in result.frames.items():
        assert frame.columns.is_unique, name


@pytest.mark.long
@pytest.mark.parametrize("kind", ["curves_csv", "steps_csv", "mlflow"])
def test_any_name_goes_to_the_written_report(
    kind: str, tmp_path: Path, empty_store: Path, internal_names: list[str]
) -> None:
    """All names at once, the report on one of them: what it is called it does not depend on."""
    documented = STEP_INPUTS if kind == "steps_csv" else CURVE_INPUTS
    names = [name for name in internal_names if name not in documented]
    result = read(kind, tmp_path, empty_store, names, ["steps"] if "steps" in names else ["x"])
    page = write_report(result, tmp_path / "report")
    (name,) = result.group_by
    assert f"{name.removeprefix('params.')} = 20" in page.read_text()
    summary = json.loads((page.parent / "summary.json").read_text())
    assert [fit["group"] for fit in summary["fits"]] == [
        {name.removeprefix("params."): value} for value in (10, 20)
    ]
    for path in (page.parent / "tables").glob("*.csv"):
        header = path.read_text().splitlines()[0].split(",")
        assert len(set(header)) == len(header), path.name
