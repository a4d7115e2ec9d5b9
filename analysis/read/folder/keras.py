"""Keras' CSVLogger: a row an epoch, numbered from 0, and no steps."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.read.csv_files import read_csv
from analysis.read.folder.recorded import File, Format, Recorded, header, logged


def _recognises(file: File) -> bool:
    names = header(file)
    return names[:1] == ["epoch"] and len(names) > 1 and not {"step", "Step"} & set(names)


def _read(file: File) -> Iterable[Recorded]:
    """What was logged at the end of epoch 0 was measured after one epoch."""
    frame = read_csv(file.path)
    metrics = {str(n): logged(frame[n]) for n in frame if n != "epoch"}
    if "loss" in metrics:
        metrics["train_loss"] = metrics.pop("loss")
    return [Recorded(file.place, file, {"epoch": logged(frame["epoch"]) + 1, **metrics})]


KERAS = Format("keras", _recognises, _read)
