"""What trains units: one journal, one thread, checkpoints."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scaling.durable import write_whole
from scaling.record.checkpoint import (
    KEPT,
    CheckpointError,
    read_checkpoint,
    refuse,
    write_checkpoint,
)
from scaling.record.journal import Journal, journal_path
from scaling.recorder import Begin, Evaluation, TrainState
from scaling.result import TrialResult
from scaling.train import train
from sweeps.run.units import Unit


class Interrupted(Exception):
    """Training was told to stop, and is saved."""


@dataclass(frozen=True)
class Place:
    """Where a sweep's records go, and how often training is saved."""

    folder: Path
    study: str
    sweep: dict[str, Any]
    interval_seconds: float | None

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def new_journal(self) -> Journal:
        return Journal(journal_path(self.folder, self.sweep["name"]), self.study, self.sweep)


class Trainer:
    """Trains units one after another; `told_to_stop` is asked before every step."""

    def __init__(self, place: Place, told_to_stop: Callable[[], bool]) -> None:
        self.place = place
        self.told_to_stop = told_to_stop
        self._journal: Journal | None = None
        self._launch = 0

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            self._journal = self.place.new_journal()
        return self._journal

    def train(self, unit: Unit) -> list[TrialResult]:
        """The unit's results; Interrupted, RecordError, or whatever the task's code raises."""
        torch.set_num_threads(1)  # the number of threads changes bits
        self._begin_launch(unit)
        recorder = JournalRecorder(self, unit)
        for number, header in zip(unit.numbers, unit.headers, strict=True):
            recorder.write("trial", trial=number, **header)
        results = train(unit.trials, recorder, self._begin(unit, recorder))
        recorder.drop_checkpoints(all(result.diverged_step is not None for result in results))
        return results

    def _begin_launch(self, unit: Unit) -> None:
        """A journal numbers the trials of one launch: each has its own."""
        if unit.launch != self._launch:
            self.close()
            self._journal, self._launch = None, unit.launch

    def _begin(self, unit: Unit, recorder: JournalRecorder) -> Begin | None:
        """The newest saved state that is whole."""
        for header in unit.saved:
            try:
                _, state = read_checkpoint(header.path)
            except CheckpointError as error:
                recorder.write("notice", text=f"{error}; moved to {refuse(header.path).name}")
                continue
            rows = [header.trial_ids.index(trial.trial_id) for trial in unit.trials]
            curves = [_cut(curve, state.step) for curve in unit.curves]
            return Begin(state, rows, curves)
        return None

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()


def _cut(curve: tuple[list[int], list[float]], step: int) -> tuple[list[int], list[float]]:
    kept = [(s, loss) for s, loss in zip(*curve, strict=True) if s <= step]
    return [s for s, _ in kept], [loss for _, loss in kept]


class JournalRecorder:
    """Writes what the loop sees of one stack, its trials numbered as in the sweep."""

    def __init__(self, trainer: Trainer, unit: Unit) -> None:
        self._trainer = trainer
        self._unit = unit
        self._written: list[Path] = []
        self._saved_at = time.monotonic()

    def write(self, record: str, **fields: Any) -> None:
        self._trainer.journal.write(record, **fields)

    def evaluation(self, evaluation: Evaluation) -> None:
        columns = {key: getattr(evaluation, key) for key in ("loss", "train_loss", "lr")}
        given = {key: column.tolist() for key, column in columns.items() if column is not None}
        trials = [self._unit.numbers[number] for number in evaluation.numbers]
        if evaluation.metrics:
            given["metrics"] = {key: list(map(_finite, v)) for key, v in evaluation.metrics.items()}
        self.write("evaluation", step=evaluation.step, trials=trials, **given)

    def picture(self, step: int, number: int, picture: np.ndarray) -> None:
        """A file beside the journals; one that cannot be written is reported and left out."""
        trial = self._unit.trials[number]
        path = self._trainer.place.pictures / trial.trial_id / f"{step:09d}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, as_png(picture))
        except OSError as error:
            self.write("notice", text=f"{error.filename}: picture not saved ({error.strerror})")
            return
        name = str(path.relative_to(self._trainer.place.folder))
        self.write("picture", trial=self._unit.numbers[number], step=step, path=name)

    def model(self, number: int, kind: str, state: dict[str, torch.Tensor]) -> None:
        """A file beside the journals, replaced by the next; the journal names it at the end."""
        path = self._trainer.place.models / self._unit.trials[number].trial_id / f"{kind}.pt"
        buffer = io.BytesIO()
        torch.save(state, buffer)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_whole(path, buffer.getvalue())
        except OSError as error:
            self.write("notice", text=f"{error.filename}: model not saved ({error.strerror})")

    def outcome(self, number: int, result: TrialResult) -> None:
        trial, place = self._unit.numbers[number], self._trainer.place
        for path in sorted((place.models / self._unit.trials[number].trial_id).glob("*.pt")):
            name = str(path.relative_to(place.folder))
            self.write("model", trial=trial, kind=path.stem, path=name)
        self.write("outcome", trial=trial, **result.as_line())

    def wants_state(self) -> bool:
        interval = self._trainer.place.interval_seconds
        due = interval is not None and time.monotonic() - self._saved_at >= interval
        return due or self._trainer.told_to_stop()

    def state(self, state: TrainState) -> None:
        self._save(state)
        self._saved_at = time.monotonic()
        if self._trainer.told_to_stop():
            raise Interrupted

    def capped(self, state: TrainState) -> None:
        """Saved apart from what is saved while it trains, and not replaced by it."""
        if self._trainer.place.interval_seconds is not None:
            self._write(state)

    def _save(self, state: TrainState) -> None:
        path = self._write(state)
        if path is not None:
            self._written.append(path)
            self._keep(KEPT)

    def _write(self, state: TrainState) -> Path | None:
        """A checkpoint that cannot be written costs time after a crash, and nothing else."""
        self._trainer.journal.flush_to_disk()  # a checkpoint builds on curves that are there
        trial_ids = [self._unit.trials[n].trial_id for n in state.stack["numbers"]]
        try:
            return write_checkpoint(self._trainer.place.checkpoints, trial_ids, state)
        except OSError as error:
            self.write("notice", text=f"{error.filename}: checkpoint not saved ({error.strerror})")
            return None

    def drop_checkpoints(self, every: bool) -> None:
        """At the end: all but the newest, from which a longer request resumes."""
        self._keep(0 if every else 1)

    def _keep(self, n: int) -> None:
        kept = self._written[len(self._written) - n :] if n else []
        for old in self._written:
            if old not in kept:
                old.unlink(missing_ok=True)
        self._written = kept


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def as_png(picture: np.ndarray) -> bytes:
    """uint8 [H, W, 3]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
