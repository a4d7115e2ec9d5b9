"""Pictures that trials left in MLflow: one of the best trial of each group, for the report."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.groups import prefixed

FOLDER = "images"  # where MLflow keeps the pictures of a run's slider


TEXT = (
    "Held-out text that the best trial was given, in grey, and what its network wrote after it, in "
    "blue."
)
COLUMNS = (
    "Held-out examples as the best trial saw, drew and should have drawn them: a column each, its "
    "input, its output, the truth."
)


@dataclass(frozen=True)
class Picture:
    """A PNG, of which trial it is, and what such pictures show."""

    caption: str
    png: bytes
    shows: str = COLUMNS


def best_trials(
    trials: pd.DataFrame, curves: pd.DataFrame, group_by: Sequence[str]
) -> list[dict[Hashable, Any]]:
    """The trial of each group whose last held-out loss is lowest, with that loss."""
    last = curves.dropna(subset="loss").sort_values("step").groupby("run_id")["loss"].last()
    known = trials.assign(last_loss=trials["run_id"].map(last)).dropna(subset="last_loss")
    ordered = known.sort_values(["last_loss", "run_id"])
    best = ordered.drop_duplicates(list(group_by)) if group_by else ordered.head(1)
    shown = best.sort_values(list(group_by)) if group_by else best
    return shown.to_dict("records")


def read_pictures(
    tracking_uri: str, trials: list[dict[Hashable, Any]], group_by: Sequence[str]
) -> list[Picture]:
    """The last picture of each trial; none for tasks without pictures. trials: of best_trials."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri)
    pictures = []
    for row in trials:
        try:
            names = [item.path for item in client.list_artifacts(row["run_id"], FOLDER)]
            steps = {step: name for name in names if (step := _step(name)) is not None}
            if not steps:
                continue
            step = max(steps)
            with tempfile.TemporaryDirectory() as folder:
                path = client.download_artifacts(row["run_id"], steps[step], folder)
                png = Path(path).read_bytes()
        except (MlflowException, OSError):
            continue  # the report is not about them
        group = {key: row[key] for key in group_by}
        caption = prefixed(
            group,
            f"batch size {row['batch_size']}, lr {row['lr']:.3g}, "
            f"after {step} steps (in the end its held-out loss is {row['last_loss']:.4g})",
        )
        shows = TEXT if row.get("task.name") == "language_model" else COLUMNS
        pictures.append(Picture(caption, png, shows))
    return pictures


def _step(name: str) -> int | None:
    """MLflow names pictures key+step+7+timestamp+...png, and a compressed copy of each."""
    match = re.search(r"[+%]step[+%](\d+)[+%].*\.png$", name)
    return int(match.group(1)) if match else None
