"""A figure as a part of a page: an SVG whose ids are its own; what styles it is the page's."""

from __future__ import annotations

import re
from xml.sax.saxutils import quoteattr

from analysis.figures.looks import to_show

_LEFT_OUT = re.compile(r"<!--.*?-->\n?|<(metadata|style)\b.*?</\1>\n?", re.DOTALL)
_ID = re.compile(r' id="([^"]+)"')
_REFERENCE = re.compile(r'(xlink:href="#|url\(#)([^")]+)')


def inline_svg(svg: bytes, name: str, title: str) -> str:
    """The SVG element for an HTML page that has several; name: unlike those of the others.

    Only ids that are referred to stay, as <name>-<id>. title: read to those who cannot see it.
    """
    text = to_show(svg)
    text = _LEFT_OUT.sub("", text[text.index("<svg") :])
    used = {reference[1] for reference in _REFERENCE.findall(text)}
    text = _ID.sub(lambda of: f' id="{name}-{of[1]}"' if of[1] in used else "", text)
    text = _REFERENCE.sub(rf"\g<1>{name}-\g<2>", text)
    return text.replace("<svg", f'<svg id="{name}" role="img" aria-label={quoteattr(title)}', 1)
