"""The record folder of a study: its journals, and one live sweep at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from scaling.durable import open_plain, refuse_no_plain_file, write_whole
from scaling.limits import ConfigError
from scaling.record.process import this_process
from sweeps.run.made_folders import make_shared

OWNER, HOLDER = "study.json", "sweep_alive.json"
FILES = ("lock", "writer.lock", HOLDER)
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
    refuse_other_kinds(folder)
    absent = [name for name in (OWNER, *FILES) if not (folder / name).exists()]
    try:
        lock = _locked(folder)
    except Timeout:
        raise ConfigError("study.name", study, _busy(folder / HOLDER)) from None
    except OSError as error:
        raise ConfigError("record_dir", folder, f"cannot be used ({error.strerror})") from None
    try:
        _claim(folder, study)
        write_whole(folder / HOLDER, json.dumps(this_process()).encode())
        yield
        (folder / HOLDER).unlink(missing_ok=True)
    except BaseException:
        if OWNER in absent and not any(folder.glob("*.jsonl")):  # nothing was recorded
            for name in absent:
                (folder / name).unlink(missing_ok=True)
        raise
    finally:
        lock.release()


def _locked(folder: Path) -> FileLock:
    """The folder's lock; Timeout if another process has it. Whoever has it may take its file away,
    so that what is locked has to be the file that stands there then."""
    path = folder / "lock"
    while True:
        make_shared(folder)
        path.touch()
        inode, lock = path.stat().st_ino, FileLock(path)
        lock.acquire(timeout=0)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == inode:
                return lock
        lock.release()


def refuse_if_alive(folder: Path, study: str) -> None:
    """ConfigError if another sweep of the study is alive: said before any other work is done."""
    if not os.path.isfile(folder / "lock"):  # whatever the folder's name is
        return
    with suppress(OSError):  # what is wrong with the folder is said where it is claimed
        try:
            with FileLock(folder / "lock", timeout=0):
                pass
        except Timeout:
            raise ConfigError("study.name", study, _busy(folder / HOLDER)) from None


def refuse_other_kinds(folder: Path) -> None:
    """ConfigError for a link, pipe or folder that stands where a file of the record should, and
    for a file where a folder should."""
    for name in FILES:
        try:
            refuse_no_plain_file(folder / name)
        except OSError:
            allowed = f"its {name} is not a plain file; remove it"
            raise ConfigError("record_dir", folder, allowed) from None
    for name in FOLDERS:
        path = folder / name
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            allowed = f"its {name} is not a plain folder; remove it"
            raise ConfigError("record_dir", folder, allowed)


def study_of(folder: Path) -> str:
    """The study whose record the folder is; ConfigError if it is none's."""
    try:
        with open_plain(folder / OWNER) as file:
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
    """Have the folder be the study's; ConfigError if it is another's or cannot be written."""
    try:
        if not (folder / OWNER).exists():
            write_whole(folder / OWNER, json.dumps({"study": study}).encode())
    except OSError as error:
        raise ConfigError("record_dir", folder, f"cannot be used ({error.strerror})") from None
    owner = study_of(folder)
    if owner != study:
        allowed = f"holds the record of study {owner}; choose another record_dir or study.name"
        raise ConfigError("record_dir", folder, allowed)


def _busy(holder: Path) -> str:
    try:
        alive = json.loads(holder.read_text())
        who = f"host {alive['host']}, pid {alive['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "just started"
    return f"a sweep of this study is running ({who}); wait until it ends, or stop it"
