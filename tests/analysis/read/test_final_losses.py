"""Tables of final losses as people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.read.final_losses import read_final_losses_csv, tidy_final_losses
from scaling.schema import DIVERGED


def frame(**columns):
    whole = {"batch_size": [8, 8, 16, 16], "lr": 0.1, "steps": [100, 200, 50, 100]}
    return pd.DataFrame(whole | {"loss": [3.0, 2.0, 3.1, 2.1]} | columns)


def test_lengths_in_any_unit_agree() -> None:
    by_steps = tidy_final_losses(frame())
    by_examples = tidy_final_losses(frame(examples=[800, 1600, 800, 1600]).drop(columns="steps"))
    by_both = tidy_final_losses(frame(examples=[800, 1597, 803, 1600]))  # a last batch was cut
    for table in (by_examples, by_both):
        pd.testing.assert_frame_equal(table, by_steps)
    tokens = tidy_final_losses(frame(tokens=np.array([800, 1600, 800, 1600]) * 2048))
    assert tokens.attrs["tokens_per_example"] == 2048
    assert by_steps.attrs["tokens_per_example"] is None


def test_a_published_table_is_read_with_its_own_names(tmp_path: Path) -> None:
    """Columns as in the public table of Step Law: names, widths, D, D/N, a second loss; lrs that
    were rounded in two ways."""
    rows = [
        {"h": 960 * k, "numl": 7, "lr": lr, "bs": bs, "ti": round(D / 2048 / bs), "loss": 9.9,
         "smooth loss": 2 + 1e9 / D / k, "exp_name": f"h{k}_lr{lr}_bs{bs}_D{D}", "D": D,
         "N": 2e8 * k, "D/N": D / (2e8 * k)}
        for k in (1, 2) for bs in (32, 64) for D in (4e9, 2e10) for lr in (3.45e-4, 4.88e-4)
    ]  # fmt: skip
    path = tmp_path / "published.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    names = {"batch_size": "bs", "steps": "ti", "loss": "smooth loss"}
    table = read_final_losses_csv(path, names)
    assert table.attrs["group_by"] == ["params.h"]  # not D, not D/N, not the name
    assert table.attrs["study"] == "published"
    sized = read_final_losses_csv(path, names | {"model_size": "N", "tokens": "D"})
    assert sized.attrs["group_by"] == ["params.model_size"]
    assert sized.attrs["tokens_per_example"] == 2048
    assert len(sized) == 16


def test_what_diverged_and_what_is_missing() -> None:
    table = tidy_final_losses(frame(loss=["nan", "2.0", "", "inf"]))
    assert table["outcome"].tolist() == [DIVERGED, "", DIVERGED]
    assert table.attrs["left_out"] == [
        "Rows left out because they lack loss: 1 (the first: row 2)."
    ]
    marked = tidy_final_losses(frame(outcome=["diverged", None, None, None]))
    assert marked["outcome"].tolist() == [DIVERGED, "", "", ""]


def test_runs_that_agree_in_all_else_are_seeds() -> None:
    twice = pd.concat([frame(), frame(loss=[3.2, 2.2, 3.3, 2.3])], ignore_index=True)
    assert tidy_final_losses(twice)["seed"].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"examples": [100, 200, 50, 100]}, "column examples is 100 in row 0; its steps x "),
        ({"tokens": [2000, 4000, 2000, 9000]}, "that is 5.625 tokens an example, in most rows"),
        ({"lr": ["a", "b", "c", "d"]}, "column lr is 'a' in row 0; it must be a number"),
        ({"batch_size": [8, 8.5, 16, 16]}, "column batch_size is 8.5 in row 1; it must be a whole"),
        ({"steps": [100, 0, 50, 100]}, "column steps is 0 in row 1; it must be greater than 0"),
        ({"steps": 100}, "every batch size was trained to one length only; runs of other lengths"),
        ({"seed": [0, 1, None, 0]}, "column seed is '' in row 2; give one in every row"),
        (
            {"steps": [100, 100, 50, 100], "seed": 0},
            "rows 0 and 1 contradict each other: column loss is 3 and 2 for the same batch_size",
        ),
    ],
)
def test_mistakes_are_one_line(columns, says) -> None:
    with pytest.raises(AnalysisError) as raised:
        tidy_final_losses(frame(**columns))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_columns_are_named_with_what_may_be_meant() -> None:
    with pytest.raises(AnalysisError, match=r"no column steps.*did you mean iters.*columns={"):
        tidy_final_losses(frame().rename(columns={"steps": "iters"}))
    with pytest.raises(AnalysisError, match="no column loss; did you mean val_loss"):
        tidy_final_losses(frame().rename(columns={"loss": "val_loss"}))
    with pytest.raises(AnalysisError, match="no row has"):
        tidy_final_losses(frame().iloc[:0])
