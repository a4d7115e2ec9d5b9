"""Files of curves and of steps as other programs write them, with something odd in them."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

CELLS: list[Any] = [
    *(None, "", "nan", "NaN", "inf", "-inf", float("nan"), float("inf"), -1, 0, 1.5, 1e300),
    -1e-300,
    *(10**30, True, "true", "many", "1,5", "1 000", "0x10", "1e999", "ü", "a;b", 'a"b', "x" * 5000),
    *(b"bytes", [1, 2], [], {"a": 1}, np.ones(3), datetime.datetime(2020, 1, 1), "2020-01-01"),
    *(decimal.Decimal("1.5"), datetime.timedelta(1), 1 + 2j, "=1+1", "\t", "reached", "???"),
]  # fmt: skip
NAMES = ["batch_size", "lr", "step", "loss", "seed", "run_id", "model_size", "outcome", "steps"]
NAMES += ["target_loss", "initial_loss", "irreducible_loss", "examples", "train_loss", "accuracy"]


def good(kind: str) -> pd.DataFrame:
    """A file that can be read: curves, a row an evaluation, or steps to a target, a row a run."""
    runs = [(size, lr, seed) for size in (4, 16, 64) for lr in (0.1, 0.2) for seed in (0, 1)]
    if kind == "steps_csv":
        rows = [(*run, 100 * (1 + 20 / run[0]) * (1 + run[1])) for run in runs]
        return pd.DataFrame(rows, columns=["batch_size", "lr", "seed", "steps"])
    rows = [
        (*run, step, (4 * (1 + 20 / run[0]) * (1 + run[1]) / step) ** 0.5)
        for run in runs
        for step in (1, 2, 4, 8, 16, 32)
    ]
    return pd.DataFrame(rows, columns=["batch_size", "lr", "seed", "step", "loss"])


@st.composite
def odd_frames(draw: st.DrawFn, kind: str) -> pd.DataFrame:
    frame = good(kind).astype(object)
    for _ in range(draw(st.integers(1, 4))):
        column = draw(st.sampled_from(list(frame.columns)))
        value = draw(st.sampled_from(CELLS))
        rows = draw(st.lists(st.integers(0, len(frame) - 1), min_size=1, max_size=3))
        change = draw(
            st.sampled_from(["cells", "cells", "cells", "column", "drop", "new", "rename"])
        )
        if change == "cells":
            values = list(frame[column])
            for row in rows:
                values[row] = value
            frame[column] = pd.Series(values, dtype=object)
        elif change == "column":
            frame[column] = pd.Series([value] * len(frame), dtype=object)
        elif change == "drop" and len(frame.columns) > 1:
            frame = frame.drop(columns=column)
        elif change == "new":
            name = draw(st.sampled_from([*NAMES, "optimizer", "", "a b", "x" * 300]))
            frame[name] = pd.Series([value] * len(frame), dtype=object)
        elif change == "rename":
            frame = frame.rename(columns={column: draw(st.sampled_from([*NAMES, column.upper()]))})
            frame = frame.loc[:, ~frame.columns.duplicated()]
    ends = draw(st.sampled_from([0, 1, len(frame), len(frame), len(frame), len(frame)]))
    frame = frame.iloc[:ends]
    return pd.concat([frame, frame.iloc[:1]]) if draw(st.booleans()) else frame


@st.composite
def odd_files(draw: st.DrawFn, kind: str) -> tuple[str, bytes]:
    """Name and content of a file."""
    frame = draw(odd_frames(kind))
    if draw(st.booleans()):
        content = _parquet(frame)
        if content is not None:
            return "odd.parquet", draw(
                st.sampled_from([content] * 8 + [content[:-9], b"PAR1", b""])
            )
    separator = draw(st.sampled_from([",", ",", ";", "\t", "|"]))
    content = frame.to_csv(index=False, sep=separator).encode()
    broken = [content] * 8 + [content[: len(content) // 2], b"", b"\n", b"\x00" * 50, b"\xff\xfe"]
    broken += [
        b"\xef\xbb\xbf" + content,
        content + b'"',
        content.replace(b"\n", b"\r"),
        b"a\n1,2\n",
    ]
    return "odd.csv", draw(st.sampled_from(broken))


def _parquet(frame: pd.DataFrame) -> bytes | None:
    """None for columns that a parquet file cannot hold: of mixed types."""
    import io

    buffer = io.BytesIO()
    columns = {str(name): _one_type(frame[name]) for name in frame}
    try:
        pd.DataFrame(columns).to_parquet(buffer)
    except Exception:  # whatever pyarrow has against it
        return None
    return buffer.getvalue()


def _one_type(column: pd.Series) -> pd.Series:
    """Lists, where one cell is a list, as programs that log vectors write them."""
    if any(isinstance(one, list | np.ndarray) for one in column):
        cells = [one if isinstance(one, list | np.ndarray) else [one] for one in column]
        return pd.Series(cells, index=column.index, dtype=object)
    return column.infer_objects()


def write(folder: Path, file: tuple[str, bytes]) -> Path:
    name, content = file
    (folder / name).write_bytes(content)
    return folder / name
