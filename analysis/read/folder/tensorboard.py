"""TensorBoard: event files, all of their points, and the CSV files that its page downloads."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from analysis.errors import AnalysisError
from analysis.read.csv_files import read_csv
from analysis.read.folder.recorded import (
    TIME,
    Columns,
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
    return [Recorded(file.directory, file, _columns(points), settings)]


def _columns(points: Mapping[str, list[tuple[float, float, float]]]) -> Columns:
    """step, TIME and a column a tag, of the points of one tag after the other."""
    if not points:
        return {}
    numbers = np.array([point for of_tag in points.values() for point in of_tag])
    columns = {"step": numbers[:, 0], TIME: numbers[:, 1]}
    first = 0
    for tag, of_tag in points.items():
        columns[tag] = np.full(len(numbers), np.nan)
        columns[tag][first : first + len(of_tag)] = numbers[first : first + len(of_tag), 2]
        first += len(of_tag)
    return columns


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
    columns = {
        "step": logged(frame["Step"]),
        TIME: logged(frame["Wall time"]),
        tag: logged(frame["Value"]),
    }
    return [Recorded(run, file, columns)]


EVENTS = Format("tensorboard", _is_events, _read_events)
DOWNLOAD = Format("tensorboard_csv", _is_download, _read_download, losses=("Value",))
