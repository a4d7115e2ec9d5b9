"""The record folder of a study: its journals, and one live sweep at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from scaling.config import ConfigError
from scaling.durable import open_plain, refuse_no_plain_file, write_whole
from scaling.journal import this_process

FILES = ("lock", "writer.lock", "sweep_alive.json")
FOLDERS = ("checkpoints", "pictures", "models", "slurm")
DAMAGED = (
    'its study.json is damaged; it should hold {"study": "<its name>"}: write that, or choose '
    "another record_dir"
)


@contextmanager
def live_sweep(folder: Path, study: str) -> Iterator[None]:
    """Hold the study's folder for one sweep; ConfigError if another one is alive or has it.

    The lock is the operating system's and ends with the process, however that ends.
    """
    _claim(folder, study)
    refuse_other_kinds(folder)
    lock = FileLock(folder / "lock")
    holder = folder / "sweep_alive.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError("study.name", study, _busy(holder)) from None
    except OSError as error:
        raise ConfigError("record_dir", folder, f"cannot be used ({error.strerror})") from None
    try:
        write_whole(holder, json.dumps(this_process()).encode())
        yield
        holder.unlink(missing_ok=True)
    finally:
        lock.release()


def refuse_other_kinds(folder: Path) -> None:
    """ConfigError for a link, pipe or folder that stands where a file of the record should, and
    for a file where a folder should."""
    for name in FILES:
        try:
            refuse_no_plain_file(folder / name)
        except OSError:
            allowed = f"its {name} is a link or no file; remove it"
            raise ConfigError("record_dir", folder, allowed) from None
    for name in FOLDERS:
        path = folder / name
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            allowed = f"its {name} is a link or no folder; remove it"
            raise ConfigError("record_dir", folder, allowed)


def study_of(folder: Path) -> str:
    """The study whose record the folder is; ConfigError if it is none's."""
    try:
        with open_plain(folder / "study.json") as file:
            name = json.loads(file.read())["study"]
    except FileNotFoundError:
        allowed = "is not the record folder of a study"
        raise ConfigError("record_dir", folder, allowed) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError("record_dir", folder, DAMAGED) from None
    if not isinstance(name, str):
        raise ConfigError("record_dir", folder, DAMAGED)
    return name


def _claim(folder: Path, study: str) -> None:
    """Make the folder the study's; ConfigError if it is another's or cannot be written."""
    owner = folder / "study.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not owner.exists():
            write_whole(owner, json.dumps({"study": study}).encode())
    except OSError as error:
        raise ConfigError("record_dir", folder, f"cannot be used ({error.strerror})") from None
    found = study_of(folder)
    if found != study:
        allowed = f"holds the record of study {found}; choose another record_dir or study.name"
        raise ConfigError("record_dir", folder, allowed)


def _busy(holder: Path) -> str:
    try:
        alive = json.loads(holder.read_text())
        who = f"host {alive['host']}, pid {alive['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "just started"
    return f"a sweep of this study is alive ({who}); wait for its end or stop it"
