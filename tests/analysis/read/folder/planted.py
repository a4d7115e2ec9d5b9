"""A planted study, written in every format as its programs write it.

At batch size B and learning rate lr the loss after n > 0 updates is F(B, lr) / n, so that steps to
the target T are F / T: S(B) = S_min (1 + B_crit / B) at the best lr, 1.5 times that at the others.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd

CRITICAL, MIN_STEPS, TARGET = 32.0, 20.0, 0.5
SIZES = (4, 16, 64, 256)
LRS = (0.05, 0.1, 0.2)
N_EXAMPLES = 4 * 4096  # a multiple of every batch size
STEPS: tuple[int, ...] = (1, 8, 16, 24, 40, 64, 100, 160, 256, 400, 640)


@dataclass(frozen=True)
class Run:
    batch_size: int
    lr: float
    seed: int

    @property
    def name(self) -> str:
        return f"bs{self.batch_size}_lr{self.lr}_s{self.seed}"

    def loss(self, step: float) -> float:
        off = 1.0 if self.lr == LRS[1] else 1.5
        return off * MIN_STEPS * (1 + CRITICAL / self.batch_size) * TARGET / step

    @property
    def settings(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "lr": self.lr, "seed": self.seed}


RUNS = [Run(size, lr, seed) for size in SIZES for lr in LRS for seed in (0, 1)]
NAMES = r"source.name_pattern='bs(?P<batch_size>\d+)_lr(?P<lr>[\d.]+)_s(?P<seed>\d+)'"
PATTERN = r"bs(?P<batch_size>\d+)_lr(?P<lr>[\d.]+)_s(?P<seed>\d+)"


def write_csv(path: Path, names: list[str], rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])


def wandb_panel(folder: Path) -> None:
    """Runs logged at steps of their own: most cells are empty."""
    names = ["Step"]
    for run in RUNS:
        names += [f"{run.name} - val/loss{end}" for end in ("", "__MIN", "__MAX")]
    rows = [[step, *(v for r in RUNS for v in [r.loss(step)] * 3)] for step in STEPS]
    write_csv(folder / "panel.csv", names, rows)
    columns = ["Name", "State", "Created", "batch_size", "lr", "seed", "val/loss"]
    table = [[r.name, "finished", "2026-01-01", *r.settings.values(), 0.1] for r in RUNS]
    write_csv(folder / "runs.csv", columns, table)


def wandb_history(folder: Path) -> None:
    """A row a call of log: training and evaluation apart, updates counted by the trainer."""
    for run in RUNS:
        rows: list[dict[str, Any]] = []
        for step in STEPS:
            rows += [
                {"train/loss": 2 * run.loss(step), "train/global_step": step},
                {"val/loss": run.loss(step), "train/global_step": step},
            ]
        frame = pd.DataFrame(rows).rename_axis("_step").reset_index()
        path = folder / run.name / "history.parquet"
        path.parent.mkdir(parents=True)
        frame.assign(_runtime=frame["_step"] * 1.0, _timestamp=1e9 + frame["_step"]).to_parquet(
            path
        )
        config = "".join(f"{k}:\n  desc: null\n  value: {v}\n" for k, v in run.settings.items())
        (path.parent / "config.yaml").write_text(
            f"wandb_version: 1\n{config}_wandb:\n  value: {{}}\n"
        )


def tensorboard(folder: Path) -> None:
    """Each run was killed and begun again from step 40."""
    for run in RUNS:
        write_events(folder / run.name, run, STEPS[:8], wrong_after=40)
        write_events(folder / run.name, run, [step for step in STEPS if step >= 40], begun=1000)


def tensorboard_once(folder: Path) -> None:
    for run in RUNS:
        write_events(folder / run.name, run, STEPS)


def write_events(
    folder: Path, run: Run, steps: Sequence[int], begun: int = 0, wrong_after: float = inf
) -> None:
    """By the library's own writer; after the step wrong_after losses are 7 times the run's."""
    event: Any = import_module("tensorboard.compat.proto.event_pb2")
    summary: Any = import_module("tensorboard.compat.proto.summary_pb2")
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder), filename_suffix=f".{begun}")
    for i, step in enumerate(steps):
        loss = run.loss(step) * (7.0 if step > wrong_after else 1.0)
        value = summary.Summary.Value(tag="eval_loss", simple_value=loss)
        time = 1e9 + begun + i
        content = summary.Summary(value=[value])
        writer.add_event(event.Event(wall_time=time, step=step, summary=content))
    writer.close()


def tensorboard_csv(folder: Path) -> None:
    for run in RUNS:
        rows = [[1e9 + step, step, run.loss(step)] for step in STEPS]
        name = f"run-{run.name}-tag-loss_val.csv"
        write_csv(folder / name, ["Wall time", "Step", "Value"], rows)


def trainer_state(folder: Path) -> None:
    for run in RUNS:
        history: list[dict[str, Any]] = []
        for step in STEPS:
            history.append({"epoch": 1.0, "loss": 2 * run.loss(step), "step": step})
            history.append({"epoch": 1.0, "eval_loss": run.loss(step), "step": step})
        path = folder / run.name
        for until in (4, len(history)):  # a checkpoint on the way, and the end
            state = {"global_step": 1, "log_history": history[:until]}
            checkpoint = path / f"checkpoint-{until}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "trainer_state.json").write_text(json.dumps(state))
        arguments = {
            "per_device_train_batch_size": run.batch_size // 4, "gradient_accumulation_steps": 2,
            "learning_rate": run.lr, "seed": run.seed, "output_dir": run.name,
        }  # fmt: skip
        for directory in path.iterdir():
            (directory / "training_args.json").write_text(json.dumps(arguments))


def lightning(folder: Path) -> None:
    for i, run in enumerate(RUNS):
        rows: list[list[Any]] = []
        for step in STEPS:
            rows += [[0, step - 1, 2 * run.loss(step), ""], [0, step - 1, "", run.loss(step)]]
        version = folder / f"version_{i}"
        write_csv(version / "metrics.csv", ["epoch", "step", "train_loss", "val_loss"], rows)
        hparams = "".join(f"{key}: {value}\n" for key, value in run.settings.items())
        other = "model: !!python/object:builtins.object {}\n"
        (version / "hparams.yaml").write_text(hparams + other)


def keras(folder: Path) -> None:
    for run in RUNS:
        per_epoch = N_EXAMPLES // run.batch_size
        rows = [[n, 9.0, run.loss((n + 1) * per_epoch)] for n in range(3)]
        write_csv(folder / f"{run.name}.csv", ["epoch", "loss", "val_loss"], rows)


def mllog(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for run in RUNS:
        settings = {"global_batch_size": run.batch_size, "opt_base_learning_rate": run.lr}
        entries = [{"key": k, "value": v} for k, v in {**settings, "seed": run.seed}.items()]
        for step in STEPS:
            about = {"samples_count": step * run.batch_size, "epoch_num": 1}
            entries.append({"key": "eval_loss", "value": run.loss(step), "metadata": about})
        lines = [f"0: :::MLLOG {json.dumps(entry)}" for entry in entries]
        (folder / f"result_{run.name}.txt").write_text("\n".join(["starting", *lines, "done"]))


def mlflow_points(folder: Path) -> None:
    names = ["run_id", "key", "value", "step", "timestamp"]
    rows = [
        [run.name, key, times * run.loss(step), step, 1_700_000_000_000 + step]
        for run in RUNS
        for step in STEPS
        for key, times in (("train_loss", 2.0), ("val_loss", 1.0))
    ]
    write_csv(folder / "metrics.csv", names, rows)
    columns = [
        "Start Time",
        "Duration",
        "Run ID",
        "Name",
        "Source Type",
        "batch_size",
        "lr",
        "seed",
    ]
    table = [["2026-01-01", "1s", r.name, "fast-crow", "LOCAL", *r.settings.values()] for r in RUNS]
    write_csv(folder / "runs.csv", columns, table)


def plain(folder: Path) -> None:
    for run in RUNS:
        rows = [[step * run.batch_size, run.loss(step), *run.settings.values()] for step in STEPS]
        write_csv(folder / f"{run.name}.csv", ["examples", "loss", *run.settings], rows)


FORMATS: dict[str, Callable[[Path], None]] = {
    "wandb_panel": wandb_panel,
    "wandb_history": wandb_history,
    "tensorboard": tensorboard,
    "tensorboard_csv": tensorboard_csv,
    "trainer_state": trainer_state,
    "lightning": lightning,
    "keras": keras,
    "mllog": mllog,
    "mlflow_points": mlflow_points,
    "csv": plain,
}
OPTIONS: dict[str, dict[str, Any]] = {  # what a format does not say of itself
    "tensorboard": {"name_pattern": PATTERN},
    "tensorboard_csv": {"name_pattern": PATTERN},
    "trainer_state": {"world_size": 2},
    "keras": {"name_pattern": PATTERN, "examples_per_epoch": N_EXAMPLES},
}
