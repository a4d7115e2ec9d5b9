"""Which formats of runs there are. The first one that recognises a file reads it."""

from __future__ import annotations

from analysis.read.folder import (
    keras,
    lightning,
    mlflow_csv,
    mllog,
    plain,
    tensorboard,
    trainer_state,
    wandb,
)
from analysis.read.folder.recorded import File, Format

FORMATS: tuple[Format, ...] = (
    tensorboard.EVENTS,
    wandb.HISTORY,
    trainer_state.TRAINER_STATE,
    tensorboard.DOWNLOAD,
    wandb.PANEL,
    wandb.TABLE,
    mlflow_csv.POINTS,
    mlflow_csv.TABLE,
    lightning.LIGHTNING,
    keras.KERAS,
    mllog.MLLOG,
    plain.PLAIN,
)
TABLES = (wandb.TABLE, mlflow_csv.TABLE)  # of settings alone, beside files of another format


def format_of(file: File) -> Format | None:
    return next((one for one in FORMATS if one.recognises(file)), None)
