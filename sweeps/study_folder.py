"""The record folder of a study: its journals, and one live sweep at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from scaling.config import ConfigError
from scaling.durable import write_whole
from scaling.journal import this_process


@contextmanager
def live_sweep(folder: Path, study: str) -> Iterator[None]:
    """Hold the study's folder for one sweep; ConfigError if another one is alive or has it.

    The lock is the operating system's and ends with the process, however that ends.
    """
    _claim(folder, study)
    lock = FileLock(folder / "lock")
    holder = folder / "sweep_alive.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError("study.name", study, _busy(holder)) from None
    try:
        write_whole(holder, json.dumps(this_process()).encode())
        yield
        holder.unlink(missing_ok=True)
    finally:
        lock.release()


def _claim(folder: Path, study: str) -> None:
    """Make the folder the study's; ConfigError if it is another's or cannot be written."""
    owner = folder / "study.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not owner.exists():
            write_whole(owner, json.dumps({"study": study}).encode())
        found = json.loads(owner.read_text())["study"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "not the record folder of a study"
        raise ConfigError("record_dir", folder, f"cannot be used ({reason})") from None
    if found != study:
        allowed = f"holds the record of study {found}; choose another record_dir or study.name"
        raise ConfigError("record_dir", folder, allowed)


def _busy(holder: Path) -> str:
    try:
        alive = json.loads(holder.read_text())
        who = f"host {alive['host']}, pid {alive['pid']}"
    except (OSError, ValueError, KeyError):
        who = "just started"
    return f"a sweep of this study is alive ({who}); wait for its end or stop it"
