"""Lightning's CSVLogger: `metrics.csv`, training and evaluations on separate rows."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.read.csv_files import read_csv
from analysis.read.folder.recorded import File, Format, Recorded, header, logged


def _recognises(file: File) -> bool:
    return file.path.name == "metrics.csv" and {"epoch", "step"} <= set(header(file))


def _read(file: File) -> Iterable[Recorded]:
    """Its step is the number of the last batch, from 0: after n updates it is n - 1."""
    frame = read_csv(file.path)
    metrics = {str(n): logged(frame[n]) for n in frame if n not in ("epoch", "step")}
    return [Recorded(file.directory, file, {"step": logged(frame["step"]) + 1, **metrics})]


LIGHTNING = Format("lightning", _recognises, _read)
