"""TensorBoard: event files, all of their points, and the CSV files that its page downloads."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.csv_files import read_csv
from analysis.read.folder.recorded import (
    TIME,
    File,
    Format,
    Recorded,
    header,
    logged,
    not_finite_as_inf,
)

_VERSION = b"brain.Event:"  # in the first record of every event file
_HPARAMS = "_hparams_/session_start_info"
_DOWNLOAD = re.compile(r"run-(?P<run>.*)-tag-(?P<tag>.*)")


def _is_events(file: File) -> bool:
    return _VERSION in file.head[:100]


def _read_events(file: File) -> Iterable[Recorded]:
    """The files of one directory are one run, begun again."""
    points: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    settings: dict[str, Any] = {}
    for event in _events(file):
        for value in event.summary.value:
            if value.tag == _HPARAMS:
                settings |= _hparams(value.metadata.plugin_data.content)
            elif (number := _scalar(value)) is not None:
                points[value.tag].append((event.step, event.wall_time, number))
    rows = [pd.DataFrame(of_tag, columns=["step", TIME, tag]) for tag, of_tag in points.items()]
    frame = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
    return [Recorded(file.directory, file, frame, settings)]


def _events(file: File) -> Iterator[Any]:
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util import tb_logging
    except ImportError:
        raise AnalysisError(
            f"source.path={file.path}: event files need the package tensorboard; "
            "pip install 'batch-scaling[tensorboard]'"
        ) from None
    tb_logging.get_logger().setLevel("ERROR")  # a file that was cut off is read to its last record
    return EventFileLoader(str(file.path)).Load()


def _scalar(value: Any) -> float | None:
    """Scalars stand as tensors once the loader has brought old files up to date."""
    if value.metadata.plugin_data.plugin_name != "scalars":
        return None
    tensor = value.tensor
    if len(tensor.float_val) == 1:
        return not_finite_as_inf(tensor.float_val[0])
    from tensorboard.util import tensor_util

    return not_finite_as_inf(float(tensor_util.make_ndarray(tensor).item()))


def _hparams(content: bytes) -> dict[str, Any]:
    from tensorboard.plugins.hparams import plugin_data_pb2

    message: Any = plugin_data_pb2  # made by protobuf at its import
    data = message.HParamsPluginData.FromString(content)
    values = data.session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


def _is_download(file: File) -> bool:
    return header(file) == ["Wall time", "Step", "Value"]


def _read_download(file: File) -> Iterable[Recorded]:
    """`run-<run>-tag-<metric>.csv`, as TensorBoard calls it; another name is that of the run."""
    frame = read_csv(file.path)
    named = _DOWNLOAD.fullmatch(file.path.stem)
    run, tag = (named["run"], named["tag"]) if named else (file.place, "Value")
    rows = pd.DataFrame(
        {
            "step": logged(frame["Step"]),
            TIME: logged(frame["Wall time"]),
            tag: logged(frame["Value"]),
        }
    )
    return [Recorded(run, file, rows)]


EVENTS = Format("tensorboard", _is_events, _read_events)
DOWNLOAD = Format("tensorboard_csv", _is_download, _read_download, losses=("Value",))
