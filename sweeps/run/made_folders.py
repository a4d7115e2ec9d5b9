"""The folders that this command makes, as long as nothing is recorded: a refusal removes them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

_made: dict[Path, bool] = {}  # by this command: folder -> whether all in it is its own


def make(folder: Path) -> bool:
    """Make a folder of this command's own, and its parents; False if it was there."""
    made = make_shared(folder)
    if made:
        _made[folder.absolute()] = True
    return made


def make_shared(folder: Path) -> bool:
    """Make a folder that others may use too, and its parents; False if it was there."""
    absent = takewhile(lambda path: not path.is_dir(), (folder, *folder.parents))
    return [False, *(_make_one(path) for path in reversed(list(absent)))][-1]


def _make_one(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False  # another command was first
    _made[folder.absolute()] = False
    return True


def keep_folders() -> None:
    """From now on something is recorded."""
    _made.clear()


@contextmanager
def unmade_if_refused() -> Iterator[None]:
    """A command that is refused (exit code 2) before it records anything leaves nothing behind."""
    _made.clear()
    try:
        yield
    except SystemExit as end:
        if end.code == 2:
            for folder, whole in reversed(_made.items()):
                with suppress(OSError):  # somebody else put something there meanwhile
                    shutil.rmtree(folder) if whole else folder.rmdir()
        raise
