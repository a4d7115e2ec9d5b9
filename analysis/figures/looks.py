"""Looks of the figures: screen and print (figures.style), their files, and dark pages."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.errors import AnalysisError

SCREEN_WIDTH = 7.2  # inches
FORMATS = ("svg", "png", "pdf")


@dataclass(frozen=True)
class Look:
    """Width of a figure in inches, its files and, for print, the rc settings of its small text."""

    width: float
    formats: tuple[str, ...] = ("svg",)
    rc: dict[Any, Any] = field(default_factory=dict)
    aspect: float | None = None  # height of the axes' part over the width; None: as the figure says


_PRINT: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "legend.fontsize": 7, "legend.title_fontsize": 7,
    "axes.linewidth": 0.6, "lines.linewidth": 1.1, "lines.markersize": 4,
    "legend.handlelength": 1.8, "legend.columnspacing": 1.2, "legend.labelspacing": 0.3,
}  # fmt: skip
LOOKS = {
    "screen": Look(SCREEN_WIDTH),
    "paper": Look(3.25, ("svg", "pdf"), _PRINT, 0.85),  # one column of a two-column page
    "paper_wide": Look(6.75, ("svg", "pdf"), _PRINT, 0.55),  # both columns
}
# Of a page that follows the reader's choice of light or dark:
_PAPER = "#15181c"
_EXACT = {  # what is not data: paper, ink, grid, shades, hatches
    "#ffffff": _PAPER, "#000000": "#e7eaee", "#1a1a1a": "#e7eaee", "#6b6b6b": "#a3adb8",
    "#e4e4e4": "#343b44", "#efefef": "#23292f", "#f2f2f2": "#2b3138", "#c9c9c9": "#505963",
    "#7d7d7d": "#98a2ad", "#cccccc": "#505963",
}  # fmt: skip
_LEAST_CONTRAST = 4.0
_MESH = re.compile(r'<g id="QuadMesh_\d+">.*?</g>', re.DOTALL)
_COLOR = re.compile(r'(?:: |=")(#[0-9a-f]{6})\b')  # not of a cell, which to_show marks
_COORDINATES = re.compile(r'(?<= d=")[^"]*')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_look: ContextVar[Look] = ContextVar("look", default=LOOKS["screen"])


@contextmanager
def look(name: str, formats: Sequence[str] | None = None) -> Iterator[None]:
    """Figures drawn and rendered inside have this look, a name of LOOKS.

    formats: of their files, None for those of the look; SVG is among them, as pages show it.
    """
    if name not in LOOKS:
        raise AnalysisError(f"figures.style={name}: must be one of {', '.join(LOOKS)}")
    chosen = LOOKS[name]
    if formats is not None:
        unknown = sorted(set(formats) - set(FORMATS))
        if unknown:
            raise AnalysisError(f"figures.formats={unknown[0]}: must be among {', '.join(FORMATS)}")
        chosen = replace(chosen, formats=tuple(dict.fromkeys(["svg", *formats])))
    token = _look.set(chosen)
    try:
        yield
    finally:
        _look.reset(token)


def current() -> Look:
    return _look.get()


def for_page(svg: bytes) -> bytes:
    """The SVG as a document of its own with rules for dark pages, as `to_show` makes it."""
    text = to_show(svg)
    return text.replace("</style>", f"{dark_rules([text])}</style>", 1).encode()


def to_show(svg: bytes) -> str:
    """The SVG with its coordinates in hundredths of a point, and the cells of heat maps written so
    that no rule finds them: their colours mean the same on light and dark pages."""
    text = _COORDINATES.sub(lambda path: _DECIMALS.sub(r"\1", path[0]), svg.decode())
    return _MESH.sub(lambda mesh: mesh[0].replace("fill: #", "fill:#"), text)


def dark_rules(svgs: Iterable[str]) -> str:
    """CSS for all colours in these SVGs; a browser asks the page for the colour scheme.

    Without a selector in front, as none would match inside what <use> repeats.
    """
    used = sorted({color for text in svgs for color in _COLOR.findall(text)})
    rules = "".join(_rule(color, dark_color(color)) for color in used)
    ink = f"svg{{fill:{_EXACT['#000000']}}}"
    return f"@media screen and (prefers-color-scheme: dark){{{ink}{rules}}}"


def dark_color(color: str) -> str:
    """The colour on dark paper: paper and ink change places, data get lighter until they show."""
    if color in _EXACT:
        return _EXACT[color]
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    while contrast(color, _PAPER) < _LEAST_CONTRAST:
        lightness += 0.02
        channels = colorsys.hls_to_rgb(hue, lightness, saturation)
        color = "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)
    return color


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (Web Content Accessibility Guidelines 2.2), 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rule(color: str, dark: str) -> str:
    if color == dark:
        return ""
    return "".join(
        f'[style*="{what}: {color}"],[{what}="{color}"]{{{what}:{dark}!important}}'
        for what in ("fill", "stroke")
    )
