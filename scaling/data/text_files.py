"""Which files a text is made of, and what they say."""

from __future__ import annotations

import glob
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from scaling.limits import ConfigError, short_reason

KEY = "data.path"
SUFFIXES = (
    *(".txt", ".md", ".rst", ".tex", ".html", ".csv", ".json", ".yaml", ".toml"),
    *(".py", ".c", ".h", ".cpp", ".java", ".js", ".ts", ".go", ".rs", ".sh"),
)
# Modules that are one file each in every Python from 3.11 on; what they say changes between them.
_MODULES = """
argparse ast base64 bdb bisect calendar cmd code codecs codeop colorsys configparser contextlib
copy csv dataclasses difflib dis doctest enum filecmp fileinput fnmatch fractions ftplib
functools genericpath getopt getpass gettext graphlib gzip hashlib heapq hmac imaplib inspect
ipaddress linecache locale mailbox mimetypes netrc ntpath numbers operator optparse os pdb
pickle pickletools platform plistlib poplib posixpath pprint profile pstats pyclbr pydoc queue
quopri random runpy sched selectors shelve shlex shutil smtplib socket socketserver ssl
statistics stringprep subprocess symtable tabnanny tarfile tempfile textwrap threading timeit
tokenize trace traceback types typing uuid warnings wave weakref webbrowser zipapp zipimport
"""
STANDARD_LIBRARY = tuple(_MODULES.split())


def text_files(path: str | None) -> list[Path]:
    """The files of `data.path`, in the order of their names: one file, those of a folder that are
    text by their suffix, or those that match a pattern; null: of the standard library.

    ConfigError where there is none.
    """
    if path is None:
        return _standard_library()
    place = Path(path).expanduser()
    if place.is_file():
        return [place]
    if place.is_dir():
        files = [file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES]
        nothing = f"this folder has no text; text is in files named *{', *'.join(SUFFIXES)}"
    else:
        files = [Path(name) for name in glob.glob(str(place), recursive=True)]
        nothing = "there is no such file or folder, and it matches none as a pattern"
    found = sorted(file for file in files if file.is_file())
    if not found:
        raise ConfigError(KEY, path, nothing)
    return found


def _standard_library() -> list[Path]:
    folder = Path(sysconfig.get_path("stdlib"))
    files = [folder / f"{name}.py" for name in STANDARD_LIBRARY]
    found = [file for file in files if file.is_file()]
    if not found:
        allowed = "this Python came without the source of its standard library: give a text file"
        raise ConfigError(KEY, None, allowed)
    return found


def read_texts(path: str | None, most_characters: int) -> list[str]:
    """What the files say, in their order, up to so many characters of all; "\\n" ends lines.

    ConfigError for a file that cannot be read or is not text in UTF-8.
    """
    return list(_texts(path, most_characters))


def _texts(path: str | None, most_characters: int) -> Iterator[str]:
    left = most_characters
    for file in text_files(path):
        try:
            with file.open(encoding="utf-8-sig") as opened:  # any newline becomes "\n"
                text = opened.read(left)
        except UnicodeDecodeError as error:
            allowed = f"{file} is not text in UTF-8 (byte {error.start})"
            raise ConfigError(KEY, path, allowed) from None
        except OSError as error:
            allowed = f"{file} cannot be read ({error.strerror or short_reason(error)})"
            raise ConfigError(KEY, path, allowed) from None
        yield text
        left -= len(text)
        if not left:
            return
