"""A figure of the page that follows the reader's choice of light or dark."""

from __future__ import annotations

import colorsys
import re

_PAPER = "#15181c"
_EXACT = {  # what is not data: paper, ink, grid, shades, hatches
    "#ffffff": _PAPER, "#000000": "#e7eaee", "#1a1a1a": "#e7eaee", "#6b6b6b": "#a3adb8",
    "#e4e4e4": "#343b44", "#efefef": "#23292f", "#f2f2f2": "#2b3138", "#c9c9c9": "#505963",
    "#7d7d7d": "#98a2ad", "#cccccc": "#505963",
}  # fmt: skip
_LEAST_CONTRAST = 4.0
_MESH = re.compile(r'<g id="QuadMesh_\d+">.*?</g>', re.DOTALL)
_COORDINATES = re.compile(r'(?<= d=")[^"]*')
_DECIMALS = re.compile(r"(\.\d\d)\d+")


def for_page(svg: bytes) -> bytes:
    """The SVG with rules for dark pages, its coordinates in hundredths of a point.

    A browser asks the page for the colour scheme. Cells of heat maps keep their colours, so that
    a colour means the same in both.
    """
    text = _COORDINATES.sub(lambda found: _DECIMALS.sub(r"\1", found[0]), svg.decode())
    used = sorted(set(re.findall(r"#[0-9a-f]{6}\b", _MESH.sub("", text))))
    rules = "".join(_rule(color, dark_color(color)) for color in used)
    style = f"@media (prefers-color-scheme: dark){{svg{{fill:{_EXACT['#000000']}}}{rules}}}"
    return text.replace("</style>", f"{style}</style>", 1).encode()


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
