"""analyse_frame: which kind a frame is, what is said of others, and other libraries' habits."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisError, analyse, analyse_frame, analyse_steps, tidy_curves

STEPS = pd.DataFrame(
    {"batch_size": [8, 32, 128, 512, 2048], "steps": [461.0, 146.0, 65.6, 46.8, 41.5]}
)
CURVES = pd.DataFrame(
    [
        {"batch_size": size, "lr": lr, "step": step, "loss": (1 + 8 / size) / step * (1 + lr)}
        for size in (1, 4, 16, 64)
        for lr in (0.1, 0.2)
        for step in (1, 2, 4, 8, 16, 32, 64, 128)
    ]
)
THEIRS = {"batch_size": "bs", "step": "iter", "loss": "val_loss"}


def answer(frame: Any, columns: dict[str, str] | None = None, **options: Any) -> str:
    return repr(analyse_frame(frame, columns, study="one", n_bootstrap=5, **options))


def test_a_frame_of_steps_is_one() -> None:
    assert answer(STEPS) == repr(analyse_steps(STEPS, study="one", n_bootstrap=5))
    assert analyse_frame(STEPS, n_bootstrap=5).study == "steps"


@pytest.mark.parametrize("clock", ["step", "examples"])
def test_a_frame_of_curves_is_one(clock: str) -> None:
    trials, curves = tidy_curves(CURVES, study="one")
    expected = repr(analyse(trials, curves, targets=[0.1], n_bootstrap=5))
    frame = CURVES.assign(examples=CURVES["step"] * CURVES["batch_size"])
    frame = frame.drop(columns={"step", "examples"} - {clock})
    assert answer(frame, targets=[0.1]) == expected
    named = frame.rename(columns=THEIRS)
    mapping = {ours: theirs for ours, theirs in THEIRS.items() if theirs in named}
    assert answer(named, mapping, targets=[0.1]) == expected
    assert analyse_frame(frame, targets=[0.1], n_bootstrap=5).study == "curves"


def test_a_kind_settles_what_the_columns_leave_open() -> None:
    both = CURVES.assign(steps=100.0)
    with pytest.raises(AnalysisError, match="may be of curves, steps and final_losses; say which"):
        answer(both, targets=[0.1])
    assert "8 trials" in answer(both, targets=[0.1], kind="curves", group_by=[])
    assert "64 trials" in answer(both, kind="steps", group_by=[])


def test_options_arrive() -> None:
    frame = pd.concat([STEPS.assign(net=net, momentum=m) for net in "ab" for m in (0.5, 0.9)])
    result = analyse_frame(frame, group_by=["net"], tuned=["lr", "momentum"], n_bootstrap=7)
    assert [group["params.net"] for group in result.groups] == ["a", "b"]
    assert result.tuned == ["lr", "params.momentum"]
    assert result.n_bootstrap == 7
    with pytest.raises(AnalysisError, match=r"has no target_loss 0\.5"):
        analyse_frame(STEPS, targets=[0.5])


ROW = {"bs": [8], "iter": [1], "val_loss": [2.0]}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (ROW, {}, r"has columns bs, iter, val_loss; curves need batch_size, lr, step or examples "
         r"and loss, steps need batch_size and steps, final_losses need batch_size, lr, steps or "
         r"examples or tokens and loss; perhaps .*columns={'batch_size': 'bs', "
         r"'step': 'iter', 'loss': 'val_loss'} and a column lr \(curves\)"),
        ({**ROW, "eta": [0.1]}, {}, r"perhaps columns={'batch_size': 'bs', 'lr': 'eta', 'step': "
         r"'iter', 'loss': 'val_loss'} \(curves\)"),
        ({"batch_size": [8], "iters": [9]}, {}, r"perhaps columns={'steps': 'iters'} \(steps\)"),
        ({"bs": [8], "iters": [9]}, {"columns": {"batch_size": "bs"}},
         r"perhaps columns={'batch_size': 'bs', 'steps': 'iters'} \(steps\)"),
        ({"x": [8], "y": [9]}, {}, "has columns x, y; curves need .* tokens and loss$"),
        ({f"x{i}": [8] for i in range(30)}, {}, "x0, .* and 10 more; curves need"),
        ({}, {}, "the frame has no columns; curves need"),
        ({"batch_size": [8], "steps": [9]}, {"kind": "curves"}, "; curves need [^;]* and loss$"),
        (ROW, {"kind": "curve"}, "kind=curve: must be one of curves, steps"),
        (ROW, {"columns": {"batch_size": "b"}}, r"columns={'batch_size': 'b'}: the frame has no "
         r"column b; .*[Tt]here are bs, iter, val_loss"),
        (ROW, {"columns": {"bs": "batch_size"}},
         "maps our names to those of the frame: columns={'batch_size': 'bs'}"),
        (ROW, {"columns": {"batch_sizes": "bs"}}, "there is no such column here; did you mean b"),
        ({"batch_size": [], "steps": []}, {}, "no row has a batch_size and steps"),
        ({"batch_size": [8], "steps": [np.nan]}, {}, "no row has a batch_size and steps"),
        ({"batch_size": [8], "steps": ["many"]}, {}, "is 'many' in row 0; it must be a number"),
        ({"batch_size": [8], "steps": [9 + 1j]}, {}, r"is \(9\+1j\) in row 0; it must be a num"),
        ({"batch_size": [8], "steps": [True]}, {}, "steps is 'True' in row 0; it must be a number"),
        ({"batch_size": [8], "steps": [9]}, {"group_by": ["net"]}, "no column net"),
    ],
)  # fmt: skip
def test_other_frames_are_named_in_one_line(columns: dict, options: dict, message: str) -> None:
    with pytest.raises(AnalysisError, match=message) as error:
        analyse_frame(pd.DataFrame(columns), **options)
    assert "\n" not in str(error.value)
    assert "source." not in str(error.value)  # which is the command's


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.concat([STEPS, STEPS["steps"]], axis=1), "column steps stands 2 times"),
        (STEPS.assign(x=1, y=2).set_axis(["batch_size", "steps", 1, "1"], axis=1), "1 stands 2"),
        (STEPS.set_axis(pd.MultiIndex.from_product([["a"], STEPS.columns]), axis=1),
         r"has 2 levels of column names, such as \('a', 'batch_size'\)"),
        (STEPS.assign(steps="?").set_axis([0] * 5), r"steps is '\?' in row 0; it must be a number"),
        (STEPS["steps"], "the frame is a Series; give a pandas DataFrame"),
        ({"batch_size": [8]}, "the frame is a dict"),
        (pd.concat([CURVES, CURVES.assign(loss=1.0)]),
         r"rows 0 and 64 contradict .* columns={'seed': ...}, or in group_by"),
        (CURVES.assign(loss=lambda of: 1 - of["loss"]), "rises in 8 of 8 .*columns={'loss': ...}"),
    ],
)  # fmt: skip
def test_odd_frames_are_named_in_one_line(frame: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message) as error:
        analyse_frame(frame)
    assert "\n" not in str(error.value)


class OfPolars:
    """What polars' and arrow's tables have, too."""

    def to_pandas(self) -> pd.DataFrame:
        return STEPS.convert_dtypes(dtype_backend="pyarrow")


HABITS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "category": lambda frame: frame.astype("category"),
    "object": lambda frame: frame.astype(object),
    "text": lambda frame: frame.astype(str),
    "mixed": lambda of: of.assign(batch_size=[np.int64(8), "32", np.str_("128"), 512, 2048.0]),
    "Int64": lambda frame: frame.convert_dtypes(),
    "pyarrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "Decimal": lambda frame: frame.map(lambda cell: decimal.Decimal(str(cell))),
    "sparse": lambda frame: frame.astype(pd.SparseDtype(float)),
    "to_pandas": lambda _: OfPolars(),
    "index": lambda frame: frame.set_index("batch_size"),
    "MultiIndex": lambda frame: frame.assign(part=1).set_index(["part", "batch_size"]),
    "nameless MultiIndex": lambda frame: frame.set_axis(
        pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "c"), (2, "d"), (2, "e")])
    ),
    "repeated index": lambda frame: frame.set_axis([0] * 5),
    "index of dates": lambda frame: frame.set_axis(pd.date_range("2020", periods=5)),
    "index named as a column": lambda frame: frame.rename_axis("steps"),
    "outcome with one category": lambda frame: frame.assign(
        outcome=pd.Categorical([None] * 5, ["censored"])
    ),
    "name that is no text": lambda frame: frame.assign(other=1).rename(columns={"other": 0}),
    "cells that are lists": lambda frame: frame.assign(tags=pd.Series([[1]] * 5)),
    "gaps": lambda frame: pd.concat([frame, frame.tail(1).assign(steps=np.nan)]),
}  # fmt: skip


@pytest.mark.parametrize("habit", HABITS)
def test_habits_of_other_libraries_change_nothing(habit: str) -> None:
    assert answer(HABITS[habit](STEPS)).split("warnings:")[0] == answer(STEPS).split("warnings:")[0]


def test_the_users_frame_stays_as_it_was() -> None:
    frame = STEPS.rename(columns={"batch_size": "bs"}).set_index("bs")
    kept = frame.copy()
    answer(frame, {"batch_size": "bs"})
    pd.testing.assert_frame_equal(frame, kept)


def test_unused_categories_make_no_groups() -> None:
    nets = pd.concat([STEPS.assign(net="a"), STEPS.assign(net="b")])
    nets = nets.astype({"net": pd.CategoricalDtype(["a", "b", "unused"])})
    result = analyse_frame(nets, n_bootstrap=5)
    assert [fit.group["params.net"] for fit in result.fits] == ["a", "b"]
