"""Files that journals name and that go into a store: only what lies in the record folder itself.

A folder may be copied from somebody else, and what its journals name is somebody's word: a link
would have a private file of whoever writes it into a shared store sent there.
"""

from __future__ import annotations

import os
from pathlib import Path

from scaling.durable import open_plain
from scaling.record.journal import JournalError

LOG = "train.log"
LOG_BYTES = 2**20


def file_of(folder: Path, path: str) -> Path | None:
    """A plain file in the folder; None where it is not there any more.

    JournalError for a link, and for what lies elsewhere or is no file.
    """
    file = inside(folder, path)
    try:
        open_plain(file).close()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from None
    return file


def end_of_log(folder: Path, path: str) -> tuple[str, str]:
    """The end of a trial's log, however long it is, and why it is not sent if it is not.

    A log that was removed is none: then the text says so.
    """
    if Path(path).name != LOG:
        return f"{path}: is not a log of training\n", f"{path} is not a log of training"
    try:
        file = file_of(folder, path)
    except JournalError as error:
        return f"{path}: is not sent\n", str(error)
    if file is None:
        return f"{path}: No such file or directory\n", ""
    with open_plain(file) as opened:
        opened.seek(max(0, opened.seek(0, os.SEEK_END) - LOG_BYTES))
        return opened.read().decode(errors="replace"), ""


def inside(folder: Path, path: str) -> Path:
    """A file that a journal names; JournalError if it lies outside of the journal's folder.

    A link, also one inside the folder, is refused: a copied folder is somebody else's word.
    """
    try:
        whole = (folder / path).resolve()
        top = folder.resolve()
        plain = whole == Path(os.path.normpath(top / os.path.relpath(folder / path, folder)))
    except (OSError, ValueError, RuntimeError):
        raise JournalError(
            f"{folder}: a journal has an invalid file name ({path[:200]!r})"
        ) from None
    if not whole.is_relative_to(top) or not plain:
        raise JournalError(
            f"{folder}: a journal names a link or a file outside of this folder ({path[:200]})"
        )
    return whole
