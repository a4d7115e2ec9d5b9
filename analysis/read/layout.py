"""Where the table of a CSV file begins, what separates its cells, what its columns are called."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

_SEPARATORS = ",;\t"
_SEP_LINE = re.compile(r"\s*\"?sep=(\\t|.)\"?\s*", re.IGNORECASE)  # as spreadsheets write it
_MOST_LINES = 50  # of a header


@dataclass(frozen=True)
class Layout:
    """separator; names of the header, stripped, "" for none; n_lines before the first row."""

    separator: str
    names: tuple[str, ...]
    n_lines: int


def read_layout(text: str) -> Layout | None:
    """The layout of a CSV file that begins with `text`; None if its header never ends.

    Before the header there may be empty lines, a line `sep=;` and comments (#). A comment right
    above a row of numbers, with as many cells, is the header (as numpy.savetxt writes it).

    >>> read_layout("sep=;\\n# exported\\nbatch_size;steps\\n8;100\\n")
    Layout(separator=';', names=('batch_size', 'steps'), n_lines=3)
    >>> read_layout("# batch_size,steps\\n8,100\\n").names
    ('batch_size', 'steps')
    """
    lines = list(io.StringIO(text, newline=None))
    place, separator, comment = 0, None, None
    for place, line in enumerate(lines):  # noqa: B007
        if found := _SEP_LINE.fullmatch(line):
            separator = "\t" if found[1] == "\\t" else found[1]
        elif line.startswith("#"):
            comment = line.lstrip("# ")
        elif line.strip():
            break
    if separator is None:
        texts = (lines[place], comment or "")
        separator = max(_SEPARATORS, key=lambda sign: [text.count(sign) for text in texts])
    rows = csv.reader(
        islice(lines, place, place + _MOST_LINES), delimiter=separator, skipinitialspace=True
    )
    try:
        first = next(rows, [])
    except csv.Error:  # of a cell without an end
        return None
    if comment is not None and first and all(map(_is_number, first)):
        names = next(cells_of([comment], separator), [])
        if len(names) == len(first):
            return Layout(separator, _stripped(names), place)
    if rows.line_num == _MOST_LINES < len(lines) - place:
        return None
    return Layout(separator, _stripped(first), place + rows.line_num)


def cells_of(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """The cells of each row, as far as they can be told apart."""
    try:
        yield from csv.reader(lines, delimiter=separator, skipinitialspace=True)
    except csv.Error:
        return


def _stripped(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in names)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True
