"""Journals as they grow: complete lines, one by one, and what is damaged."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.durable import open_plain, read_line
from scaling.record.journal import SUFFIX, JournalError
from scaling.record.lines import check_line

READ_FORMATS = (2, 3)
CHECKED_FORMAT = 3  # from here on lines have numbers and checksums
CHUNK_BYTES = 2**22


class JournalReader:
    """Follows one journal that may still be written; a torn last line waits for its end.

    damaged: number and reason of each line that is left out.
    """

    def __init__(self, path: Path) -> None:
        """JournalError for what is no plain file."""
        self.path = path
        try:
            self._file = open_plain(path)
        except OSError as error:
            reason = "is a link" if error.errno == errno.ELOOP else error.strerror
            raise JournalError(f"{path}: not a journal: {reason}; move it away") from None
        self._rest = b""
        self._number = 0
        self._format = 0
        self.damaged: list[tuple[int, str]] = []

    def read(self) -> list[dict[str, Any]]:
        """The complete lines since the last call, to the end of the file."""
        return [line for _, line in self.lines()]

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The same one by one, with their numbers."""
        while chunk := self._file.read(CHUNK_BYTES):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for text in lines:
                self._number += 1
                line = self._line(text)
                if line is not None:
                    yield self._number, line

    @property
    def torn(self) -> bool:
        """The file ends in the middle of a line."""
        return bool(self._rest)

    def _line(self, text: bytes) -> dict[str, Any] | None:
        try:
            line, _ = read_line(text, check=self._format >= CHECKED_FORMAT)
            check_line(line)
            kind = line["record"]
        except ValueError as error:
            if self._number == 1:
                raise JournalError(f"{self.path}: not a journal of trials; move it away") from None
            self.damaged.append((self._number, str(error)))
            return None
        if kind == "journal":
            if line["format"] not in READ_FORMATS:
                raise JournalError(
                    f"{self.path}: journal format {line['format']}, this version reads "
                    f"{READ_FORMATS[0]} and {READ_FORMATS[-1]}; use the version that wrote it, or "
                    "another record_dir"
                )
            self._format = line["format"]
        elif self._format >= CHECKED_FORMAT and line.get("line") != self._number:
            self.damaged.append(
                (self._number, f"lines before it are missing: it is number {line['line']}")
            )
            self._number = line["line"]
        return line

    def close(self) -> None:
        self._file.close()


class FolderReader:
    """Follows the journals of a folder, later ones too, but for those that `new` finds there.

    refused: why a file cannot be read at all; with strict the first of them is raised instead.
    """

    def __init__(self, folder: Path, new: bool = False, strict: bool = True) -> None:
        """new: by what is there, not by time: other machines have other clocks."""
        self._folder, self._strict = folder, strict
        self._passed = set(folder.glob(f"*{SUFFIX}")) if new else set()
        self._readers: dict[Path, JournalReader] = {}
        self._damaged: dict[Path, list[tuple[int, str]]] = {}
        self.refused: dict[Path, JournalError] = {}

    def read(self) -> list[tuple[str, dict[str, Any]]]:
        """Complete lines since the last call, each with its journal's name."""
        return [(name, line) for name, _, line in self.lines()]

    def lines(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """The same one by one, with their numbers; each journal to its end."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path not in self._readers and path not in self._passed:
                self._open(path)
        for path, reader in self._readers.items():
            if path in self.refused:
                continue
            try:
                for number, line in reader.lines():
                    yield path.stem, number, line
            except JournalError as error:
                self._refuse(path, error)

    def _open(self, path: Path) -> None:
        try:
            self._readers[path] = JournalReader(path)
        except JournalError as error:
            self._passed.add(path)
            self._refuse(path, error)

    def _refuse(self, path: Path, error: JournalError) -> None:
        if self._strict:
            raise error
        self.refused[path] = error

    def leave_out(self, journal: str, number: int, reason: str) -> None:
        """A whole line that says nothing that can be used."""
        self._damaged.setdefault(self._folder / f"{journal}{SUFFIX}", []).append((number, reason))

    def damages(self) -> list[str]:
        """A sentence for each journal that cannot be read, or of which lines are left out."""
        damaged = {path: [*reader.damaged] for path, reader in self._readers.items()}
        for path, lines in self._damaged.items():
            damaged.setdefault(path, []).extend(lines)
        sentences = [str(error) for error in self.refused.values()]
        for path, lines in damaged.items():
            if lines:
                number, reason = min(lines)
                more = f"; {len(lines) - 1} more of its lines cannot be used" * (len(lines) > 1)
                sentences.append(f"{path}: line {number} is damaged ({reason}){more}")
        return sentences

    def torn(self) -> list[Path]:
        """Journals that end in the middle of a line: their writer was killed, or is writing."""
        return [path for path, reader in self._readers.items() if reader.torn]

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    def __enter__(self) -> FolderReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
