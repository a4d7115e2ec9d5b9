"""Any other CSV or parquet file with a column `step` or `examples`: one run a file."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.read.files import read_table
from analysis.read.folder.recorded import File, Format, Recorded, header, logged
from analysis.read.trials import OF_A_CURVE

_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")


def _recognises(file: File) -> bool:
    if file.path.suffix.lower() not in _SUFFIXES:
        return False
    if file.head.startswith(b"PAR1"):
        return True
    return bool({"step", "examples"} & set(header(file)))


def _read(file: File) -> Iterable[Recorded]:
    """What does not change is a setting, the rest are metrics."""
    frame = read_table(file.path)
    if not {"step", "examples"} & set(frame):
        raise file.error("has no column step or examples")
    metrics, settings = {}, {}
    for name in map(str, frame.columns):
        values = frame[name].dropna()
        if name not in OF_A_CURVE and len(frame) > 1 and values.nunique() == 1:
            settings[name] = values.iloc[0]
        else:
            metrics[name] = logged(frame[name])
    return [Recorded(file.place, file, metrics, settings)]


PLAIN = Format("csv", _recognises, _read, losses=("loss",))
