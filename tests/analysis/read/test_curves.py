"""Curves of other projects: their names, any order, and one line for what contradicts itself."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import analyse
from analysis.errors import AnalysisError
from analysis.measure.cell_frame import steps_to_target
from analysis.read.curves import read_curves_csv, tidy_curves

SIZES, MIN_STEPS, MIN_EXAMPLES = [8, 32, 128, 512, 2048, 8192], 40.0, 8000.0
TWO_PROJECTS = [
    {"batch_size": "bs", "lr": "learning_rate", "step": "iter", "loss": "val_loss"},
    {
        "batch_size": "train.batch_size",
        "lr": "optimizer.peak_lr",
        "step": "global_step",
        "loss": "eval/loss",
    },
]


def curves_table() -> pd.DataFrame:
    """Exact curves: the loss halves whenever the steps grow 4 times; S(B) = 40 + 8000/B at 0.1."""
    rows = []
    for size in SIZES:
        for lr in (0.5, 1.0, 2.0):
            slower = 1 + np.log(lr) ** 2
            to_target = (MIN_STEPS + MIN_EXAMPLES / size) * slower
            for step in np.unique(np.geomspace(1, 3 * to_target, 80).astype(int)):
                loss = 0.1 * (to_target / step) ** 0.5
                rows.append({"batch_size": size, "lr": lr, "step": step, "loss": loss})
    return pd.DataFrame(rows)


def write(folder: Path, text: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("names", TWO_PROJECTS)
@pytest.mark.parametrize("kind", ["csv", "parquet", "semicolons"])
def test_column_names_of_two_other_projects(
    tmp_path: Path, names: dict[str, str], kind: str
) -> None:
    theirs = curves_table().rename(columns=names).sample(frac=1, random_state=0)
    path = tmp_path / ("mine.parquet" if kind == "parquet" else "mine.csv")
    if kind == "parquet":
        theirs.to_parquet(path)
    else:
        theirs.to_csv(path, index=False, sep=";" if kind == "semicolons" else ",")
    trials, curves = read_curves_csv(path, names)
    assert len(trials) == len(SIZES) * 3
    assert set(trials["study"]) == {"mine"}
    assert len(curves) == len(theirs)
    result = analyse(trials, curves, targets=[0.1], n_bootstrap=10)
    expected = MIN_EXAMPLES / MIN_STEPS
    exact = MIN_STEPS + MIN_EXAMPLES / result.frontier["batch_size"]
    np.testing.assert_allclose(result.frontier["steps"], exact, rtol=1e-9)
    assert result.fits[0].critical_batch_size == pytest.approx(expected, rel=0.03)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 700.0]), again=st.booleans())
def test_order_repetition_and_units_do_not_matter(seed: int, scale: float, again: bool) -> None:
    table = curves_table()
    table = table[table["batch_size"] <= 128]
    changed = pd.concat([table, table.sample(20, random_state=seed)]) if again else table
    changed = changed.sample(frac=1, random_state=seed, ignore_index=True)
    changed = changed.assign(loss=changed["loss"] * scale, lr=changed["lr"] * scale)
    before = steps_to_target(*tidy_curves(table), targets=[0.1, 0.2])
    after = steps_to_target(*tidy_curves(changed), targets=[0.1 * scale, 0.2 * scale])
    for name in ("steps", "steps_lower", "steps_upper"):
        np.testing.assert_allclose(before[name], after[name], rtol=1e-9)
    assert before["outcome"].tolist() == after["outcome"].tolist()


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.integers(1, 2000), min_size=2, max_size=30, unique=True),
    level=st.floats(0.02, 1.2),
)
def test_a_crossing_lies_between_its_bounds(steps: list[int], level: float) -> None:
    steps = sorted(steps)
    frame = pd.DataFrame({"batch_size": 8, "lr": 1.0, "step": steps, "loss": 1.0 / np.sqrt(steps)})
    cell = steps_to_target(*tidy_curves(frame), targets=[level]).iloc[0]
    if cell["outcome"] == "censored":
        assert (cell["steps_lower"], level < frame["loss"].min()) == (steps[-1], True)
        return
    if cell["outcome"] == "left_censored":
        assert (cell["steps_upper"], level >= frame["loss"].max()) == (
            pytest.approx(steps[0]),
            True,
        )
        assert np.isnan(cell["steps"])
        return
    assert cell["steps_lower"] <= cell["steps"] <= cell["steps_upper"]
    assert cell["steps_lower"] * (1 - 1e-9) <= level**-2 <= cell["steps_upper"] * (1 + 1e-9)


def test_seeds_at_other_steps_are_interpolated() -> None:
    rows = [
        {"batch_size": 8, "lr": 1.0, "seed": seed, "step": step, "loss": 10.0 / step}
        for seed, steps in ((0, [1, 4, 16, 64]), (1, [2, 8, 32, 128]))
        for step in steps
    ]
    cell = steps_to_target(*tidy_curves(pd.DataFrame(rows)), targets=[1.0]).iloc[0]
    assert cell["steps"] == pytest.approx(10.0)  # a power law is exact in log-log
    assert cell["n_seeds"] == 2


@pytest.mark.parametrize("nothing", ["", "nan", "inf", "-inf", "NaN"])
def test_a_gap_widens_the_bounds(tmp_path: Path, nothing: str) -> None:
    losses = {step: 10 / (1 + step) for step in (1, 2, 4, 8, 16, 32)}  # at 1.0 at step 9
    text = "batch_size,lr,step,loss\n"
    rows = [f"8,0.1,{step},{loss}\n" for step, loss in losses.items()]
    whole = steps_to_target(*read_curves_csv(write(tmp_path, text + "".join(rows))), targets=[1.0])
    rows[3] = f"8,0.1,8,{nothing}\n"
    trials, curves = read_curves_csv(write(tmp_path, text + "".join(rows)))
    gap = steps_to_target(trials, curves, targets=[1.0])
    narrow, wide = (np.log(f["steps_upper"][0] / f["steps_lower"][0]) for f in (whole, gap))
    assert 0 < 2 * narrow < wide < 0.1
    for frame in (whole, gap):
        assert frame["steps"].tolist() == [pytest.approx(9, rel=0.02)]
    said = (
        "Losses that are not finite, but have finite ones after them, treated as gaps: 1 in 1 run"
    )
    assert [text.startswith(said) for text in trials.attrs["left_out"]] == [True] * bool(nothing)


def test_what_is_not_finite_to_the_end_is_a_divergence(tmp_path: Path) -> None:
    text = "batch_size,lr,step,loss\n"
    text += "".join(f"8,0.1,{step},{10 / step}\n" for step in (1, 2, 4))
    broken = write(tmp_path, text + "8,0.1,8,nan\n8,0.1,12,\n8,0.1,16,inf\n")
    trials, curves = read_curves_csv(broken)
    assert trials["outcome"].tolist() == ["diverged"]
    assert curves["step"].max() == 4
    assert trials.attrs["left_out"] == []
    assert steps_to_target(trials, curves, targets=[1.0])["outcome"].tolist() == ["diverged"]


def test_runs_without_a_run_id_and_groups() -> None:
    table = curves_table()
    both = pd.concat(
        [
            table.assign(optimizer="sgd", warmup=table["batch_size"] * 2),
            table.assign(optimizer="adam", warmup=table["batch_size"] * 2, step=2 * table["step"]),
        ],
        ignore_index=True,
    )
    trials, curves = tidy_curves(both)
    assert len(trials) == 2 * 3 * len(SIZES)
    assert trials.attrs["group_by"] == ["params.optimizer"]
    assert any("do not define groups" in text for text in trials.attrs["left_out"])
    result = analyse(trials, curves, targets=[0.1], n_bootstrap=5)
    assert {fit.group["params.optimizer"] for fit in result.fits} == {"sgd", "adam"}


def test_further_tuned_columns_and_their_best_values() -> None:
    table = curves_table()
    runs = [
        table.assign(momentum=momentum, step=np.ceil(table["step"] * slower).astype(int))
        for momentum, slower in ((0.0, 2.0), (0.5, 1.0), (0.9, 1.5), (0.99, 3.0))
    ]
    both = pd.concat(runs).drop_duplicates(["batch_size", "lr", "momentum", "step"])
    both = both.reset_index(drop=True)
    frames = tidy_curves(both, tuned=["lr", "momentum"])
    result = analyse(*frames, targets=[0.1], tuned=["lr", "momentum"], n_bootstrap=5)
    assert result.group_by == []
    assert set(result.frontier["params.momentum"]) == {0.5}
    assert set(result.frontier["lr"]) == {1.0}
    assert not result.frontier[["lr_at_edge", "params.momentum_at_edge"]].any(axis=None)
    assert result.fits[0].critical_batch_size == pytest.approx(200, rel=0.03)
    ends = both[both["momentum"] <= 0.5].assign(momentum=lambda f: f["momentum"] - 0.5)
    ends = pd.concat([ends, both[both["momentum"] > 0.9]], ignore_index=True)
    result = analyse(
        *tidy_curves(ends, tuned=["lr", "momentum"]),
        targets=[0.1], tuned=["lr", "momentum"], n_bootstrap=5,
    )  # fmt: skip
    assert not result.frontier["params.momentum_at_edge"].any()  # 0 is between -0.5 and 0.99
    with pytest.raises(AnalysisError, match="tuned: no param named momentun"):
        analyse(*frames, targets=[0.1], tuned=["lr", "momentun"])


GOOD = "batch_size,lr,step,loss\n8,0.1,1,2\n8,0.1,2,1\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "bs,lr,step,loss\n8,0.1,1,2\n",
            "no column batch_size; did you mean bs.*There are bs, ",
        ),
        ("batch_size,lr,iter,loss\n8,0.1,1,2\n", "no column step; did you mean iter"),
        (GOOD + "8,0.1,three,1\n", "column step is 'three' in row 4; it must be a number"),
        (GOOD + "8,0.1,-3,1\n", "column step is -3 in row 4; it must not be negative"),
        (GOOD + "-8,0.1,3,1\n", "column batch_size is -8 in row 4; it must be greater than 0"),
        (GOOD + "0,0.1,3,1\n", "column batch_size is 0 in row 4; it must be greater than 0"),
        (GOOD + "8.5,0.1,3,1\n", "column batch_size is 8.5 in row 4; it must be a whole number"),
        (GOOD + "8,inf,3,1\n", "column lr is 'inf' in row 4; it must be a finite number"),
        (GOOD + "8,0.1,2,1.5\n", r"rows 3 and 4 contradict each other: column loss is 1 and 1.5"),
        (GOOD + "8,0.1,2,1,9\n", "row 4 has 5 cells, but the header has 4"),
        ("batch_size,lr,step,loss\n", "the table has no rows"),
        ("", "the file is empty"),
        (" \n\n", "the file is empty"),
        ("batch_size,lr,step,loss\n,,1,2\n", "no row has a batch_size, an lr and a step"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(AnalysisError, match=f"^source.path={re.escape(str(path))}.*{says}") as told:
        read_curves_csv(path)
    assert "\n" not in str(told.value)


def test_one_run_with_two_batch_sizes() -> None:
    frame = pd.DataFrame(
        {"run_id": "a", "batch_size": [8, 16], "lr": 0.1, "step": [1, 2], "loss": [2.0, 1.0]}
    )
    with pytest.raises(AnalysisError, match=r"rows 0 and 1 of run a .* batch_size is 8.0 and 16.0"):
        tidy_curves(frame)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"loss": "val"}, "columns={'loss': 'val'}: .* did you mean val_loss"),
        ({"los": "val_loss"}, "columns={'los': 'val_loss'}: there is no such column here; .* loss"),
    ],
)
def test_mappings_that_name_nothing(columns: dict[str, str], says: str) -> None:
    frame = pd.DataFrame({"batch_size": [8], "lr": 0.1, "step": 1, "val_loss": 1.0})
    with pytest.raises(AnalysisError, match=f"^{says}"):
        tidy_curves(frame, columns)


def test_rows_that_lack_something_are_left_out_and_said(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "8,,3,0.5\n16,0.1,1,2\n")
    trials, curves = read_curves_csv(path)
    assert trials["batch_size"].tolist() == [8, 16]
    assert curves["step"].tolist() == [1, 2, 1]
    said = ["Rows left out because they lack lr: 1 (the first: row 4)."]
    assert trials.attrs["left_out"] == said


def _curve(loss: Any) -> pd.DataFrame:
    return pd.DataFrame({"batch_size": 8, "lr": 0.1, "step": [1, 2, 4], "loss": loss})


def test_studies_that_say_nothing() -> None:
    with pytest.raises(AnalysisError, match="all 1 finished trials diverged"):
        analyse(*tidy_curves(_curve([2.0, np.inf, np.inf])))
    one = analyse(*tidy_curves(_curve([2.0, 1.0, 0.5])), targets=[0.7], n_bootstrap=5)
    assert any("only one batch size" in text for text in one.warnings)
    never = analyse(*tidy_curves(_curve([2.0, 1.0, 0.5])), targets=[0.1], n_bootstrap=5)
    assert never.frontier["outcome"].tolist() == ["censored"]
    assert not never.fits[0].identified


def test_nested_and_categorical_columns_are_names() -> None:
    table = curves_table()
    both = pd.concat(
        [table.assign(net=net, tags=table["lr"].map(lambda _, n=net: [n])) for net in ("a", "b")],
        ignore_index=True,
    ).astype({"net": "category"})
    trials, _ = tidy_curves(both)
    assert trials.attrs["group_by"] == ["params.net"]
    assert sorted(trials["params.tags"].unique()) == ["['a']", "['b']"]


@pytest.mark.parametrize(("values", "label"), [(["fast", "slow"], "fast"), ([10, 20], None)])
def test_a_number_of_ours_that_holds_text_is_a_label(values: list[Any], label: str | None) -> None:
    both = pd.concat(
        [curves_table().assign(step_seconds=value, run_id=f"{value}") for value in values],
        ignore_index=True,
    )
    both["run_id"] += both["batch_size"].astype(str) + both["lr"].astype(str)
    trials, curves = tidy_curves(both)
    assert trials.attrs["group_by"] == (["params.step_seconds"] if label else [])
    assert ("step_seconds" in curves) == (label is None)
    with pytest.raises(AnalysisError, match="column step_seconds is 'fast' in row 0; it must be a"):
        tidy_curves(both.assign(step_seconds="fast"), {"step_seconds": "step_seconds"})
    mixed = both.assign(step_seconds="0.1")
    mixed.loc[5, "step_seconds"] = "fast"
    with pytest.raises(AnalysisError, match="column step_seconds is 'fast' in row 5; it must be a"):
        tidy_curves(mixed)


@pytest.mark.parametrize("kind", ["setting", "metric", "epoch", "seed"])
def test_numbers_that_tell_runs_apart(kind: str) -> None:
    """Without run_id a number is a setting if rows contradict each other without it."""
    table = curves_table()
    twice = [table.assign(depth=depth, loss=table["loss"] * depth) for depth in (1, 2)]
    both = pd.concat(twice, ignore_index=True)
    if kind == "setting":
        trials, _ = tidy_curves(both)
        assert trials.attrs["group_by"] == ["params.depth"]
        assert len(trials) == 2 * 3 * len(SIZES)
        return
    metric, epoch = np.arange(len(both)) / 7, both["step"] // 50
    values = {"metric": metric, "epoch": epoch, "seed": both["depth"]}
    name = {"seed": "random_seed"}.get(kind, kind)
    with pytest.raises(AnalysisError, match=r"contradict each other.*columns={'seed'"):
        tidy_curves(both.drop(columns="depth").assign(**{name: values[kind]}))
    logged = table.assign(epoch=table["step"] // 50, time=np.arange(len(table)) / 7)
    assert len(tidy_curves(logged)[0]) == 3 * len(SIZES)


def test_group_by_and_tuned_may_name_any_column_and_what_was_renamed() -> None:
    table = curves_table().rename(columns={"batch_size": "status", "lr": "x"})
    named = {"batch_size": "status", "lr": "x", "model_size": "width"}
    runs = [
        table.assign(width=width, seconds=seconds, loss=table["loss"] * width * seconds)
        for width in (1, 2)
        for seconds in (1.0, 2.0)
    ]
    both = pd.concat(runs, ignore_index=True)
    asked: dict[str, Any] = {"group_by": ["width"], "tuned": ["x", "seconds"]}
    trials, curves = tidy_curves(both, named, **asked)
    assert trials.attrs["group_by"] == ["params.model_size"]
    result = analyse(
        trials, curves, targets=[0.2], group_by=["model_size"], tuned=["lr", "seconds"],
        n_bootstrap=5,
    )  # fmt: skip
    assert set(result.frontier["params.seconds"]) == {1.0}
    assert [fit.group for fit in result.fits] == [{"params.model_size": size} for size in (1, 2)]


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (["830", "1.125"], "column step is '1.125' in row 3; write 1125 if its dot separates"),
        (["12.345.678", "1.125"], "column step is '12.345.678' in row 2; write 12345678"),
        (["2080", "1.125"], None),
        (["0.125", "1.125"], None),
        (["830", "1.5"], None),
        (["830", "1,125"], None),
    ],
)
def test_a_dot_that_may_separate_thousands(
    tmp_path: Path, step: list[str], says: str | None
) -> None:
    rows = "".join(f"8;0,1;{text};2,5\n" for text in step)
    path = write(tmp_path, "batch_size;lr;step;loss\n" + rows)
    if says is None:
        assert len(read_curves_csv(path)[1]) == 2
        return
    with pytest.raises(AnalysisError, match=says):
        read_curves_csv(path)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda step: step / 100, "column loss rises in 6 of 6 runs"),
        (lambda step: 0.1 + 0.8 * (1 - 1 / step) - 0.02 * (step == 2), "column loss rises"),
        (lambda step: 1 / step + 0.5 * (step > 50), None),  # overfits
        (lambda step: 2.0 + 0.001 * (-1.0) ** step, None),  # learns nothing
    ],
)
def test_a_loss_that_rises_is_said(loss: Any, says: str | None) -> None:
    rows = [(size, 0.1, step, loss(step)) for size in SIZES for step in (1, 2, 5, 10, 20, 50, 99)]
    frame = pd.DataFrame(rows, columns=["batch_size", "lr", "step", "loss"])
    if says is None:
        assert len(tidy_curves(frame)[0]) == len(SIZES)
        return
    with pytest.raises(AnalysisError, match=says):
        tidy_curves(frame)


def test_one_evaluation_a_run_says_nothing_about_steps() -> None:
    frame = pd.DataFrame({"batch_size": SIZES, "lr": 0.1, "step": 100, "loss": 2.0})
    with pytest.raises(AnalysisError, match="every run has a single evaluation of column loss"):
        tidy_curves(frame)
    assert len(tidy_curves(frame.head(1))[0]) == 1  # about what was left of the loss


@settings(max_examples=60, deadline=None)
@given(
    losses=st.lists(st.sampled_from([2.0, math.nan, math.inf, -math.inf]), min_size=1, max_size=8)
)
def test_a_run_diverged_if_nothing_finite_comes_after(losses: list[float]) -> None:
    frame = pd.DataFrame({"step": range(len(losses)), "loss": list(map(str, losses))})
    trials, curves = tidy_curves(frame.assign(batch_size=8, lr=0.1))
    finite = [loss for loss in losses if math.isfinite(loss)]
    assert curves["loss"].tolist() == finite
    diverged = trials["outcome"].eq("diverged").tolist()
    assert diverged == [not math.isfinite(losses[-1])]
