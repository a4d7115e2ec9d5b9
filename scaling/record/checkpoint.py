"""Stacks saved while they train: files that are whole, checked, and read as data only.

    batch-scaling checkpoint 2 <sha256 of all that follows this line>
    {"step": s, "due": next evaluation, "trial_ids": [..], "seconds": [..]}
    torch.save of the stack's state, loaded with weights_only

A file is named after the stack that wrote it and its step. Curves are not saved: the journals have
them, and are on disk before the checkpoint that builds on them.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.durable import write_whole

if TYPE_CHECKING:  # torch takes seconds to import, and a plan reads headers alone
    from scaling.recorder import TrainState

CHECKPOINT_FORMAT = 2  # 1: all buffers of a network in one vector
MAGIC = b"batch-scaling checkpoint"
SUFFIX = ".ckpt"
KEPT = 2  # newest files of a trial: the one before is used where the newest is damaged


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message is one line and names the file."""


@dataclass(frozen=True)
class Header:
    path: Path
    step: int
    due: int
    trial_ids: list[str]
    seconds: list[float]


def write_checkpoint(folder: Path, trial_ids: Sequence[str], state: TrainState) -> Path:
    """Save a stack; trial_ids: those of its rows."""
    import torch

    buffer = io.BytesIO()
    torch.save(state.stack, buffer)
    header = {"step": state.step, "due": state.due}
    header |= {"trial_ids": list(trial_ids), "seconds": state.seconds}
    body = json.dumps(header).encode() + b"\n" + buffer.getvalue()
    digest = hashlib.sha256(body).hexdigest().encode()
    path = folder / f"{_stack_name(trial_ids)}-{state.step:012d}{SUFFIX}"
    folder.mkdir(exist_ok=True)
    first = b"%s %d %s\n" % (MAGIC, CHECKPOINT_FORMAT, digest)
    write_whole(path, first + body)
    return path


def read_header(path: Path) -> Header:
    """Step and trials of a checkpoint, its content unchecked."""
    try:
        with path.open("rb") as file:
            _digest(path, file.readline(200))
            return _header(path, file.readline())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


def read_checkpoint(path: Path) -> tuple[Header, TrainState]:
    """CheckpointError for a file that is not whole, was changed, or is of another format."""
    import torch

    from scaling.recorder import TrainState

    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    first, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest() != _digest(path, first):
        raise CheckpointError(f"{path}: is damaged (its checksum does not match)")
    line, _, payload = body.partition(b"\n")
    header = _header(path, line)
    try:
        stack: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError):
        raise CheckpointError(f"{path}: is not in a format that this version reads") from None
    return header, TrainState(header.step, header.due, header.seconds, stack)


def _stack_name(trial_ids: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(trial_ids).encode()).hexdigest()[:16]


def _digest(path: Path, first: bytes) -> str:
    words = first.split()
    if len(words) != 4 or b" ".join(words[:2]) != MAGIC:
        raise CheckpointError(f"{path}: is damaged, or not a checkpoint")
    if words[2] != b"%d" % CHECKPOINT_FORMAT:
        given = words[2].decode(errors="replace")
        raise CheckpointError(
            f"{path}: checkpoint format {given}, this version reads {CHECKPOINT_FORMAT}"
        )
    return words[3].decode(errors="replace")


def _header(path: Path, line: bytes) -> Header:
    try:
        return Header(path, **json.loads(line))
    except (ValueError, TypeError):
        raise CheckpointError(f"{path}: is damaged (no header)") from None


def refuse(path: Path) -> Path:
    """Move a checkpoint out of the way that cannot be used; where it stands then."""
    moved = path.with_suffix(".refused")
    with suppress(FileNotFoundError):
        path.rename(moved)
    return moved


def read_headers(folder: Path, move: bool = True) -> tuple[list[Header], list[str]]:
    """The checkpoints of a study, and a line for each file that is refused (and moved away)."""
    headers, refused = [], []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            headers.append(read_header(path))
        except FileNotFoundError:
            continue  # a worker that trains has replaced it
        except CheckpointError as error:
            refused.append(f"{error}; moved to {refuse(path).name}" if move else str(error))
    return headers, refused


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # an orphan of the sweep before has replaced it
        return 0


def tidy(folder: Path, headers: Sequence[Header]) -> None:
    """Remove what no trial would go on from, and what a killed process left half-written."""
    for path in folder.glob(f".*{SUFFIX}.*.tmp"):
        path.unlink(missing_ok=True)
    newest_first = sorted(headers, key=lambda header: -_written_at(header.path))
    seen: Counter[str] = Counter()
    for header in newest_first:
        if all(seen[trial_id] >= KEPT for trial_id in header.trial_ids):
            header.path.unlink(missing_ok=True)
        seen.update(header.trial_ids)


def drop_checkpoints(folder: Path, trial_ids: AbstractSet[str]) -> None:
    """Remove those of these trials alone: nothing more is asked of them."""
    for header in read_headers(folder, move=False)[0]:
        if trial_ids >= set(header.trial_ids):
            header.path.unlink(missing_ok=True)
