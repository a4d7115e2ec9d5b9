"""A figure as a part of a page: an SVG whose ids, styles and dark colours are its own."""

from __future__ import annotations

import re
from xml.sax.saxutils import quoteattr

from analysis.figures.looks import for_page

_NOT_OF_THE_PICTURE = re.compile(r"<!--.*?-->\n?|<metadata>.*?</metadata>\n?", re.DOTALL)
_ID = re.compile(r' id="([^"]+)"')
_REFERENCE = re.compile(r'(xlink:href="#|url\(#)([^")]+)')


def inline_svg(svg: bytes, name: str, title: str) -> str:
    """The SVG element for an HTML page that has several; name: unlike those of the others.

    Only ids that are referred to stay, as <name>-<id>. title: read to those who cannot see it.
    """
    text = for_page(svg, f"#{name} ").decode()
    text = _NOT_OF_THE_PICTURE.sub("", text[text.index("<svg") :])
    used = {reference[1] for reference in _REFERENCE.findall(text)}
    text = _ID.sub(lambda of: f' id="{name}-{of[1]}"' if of[1] in used else "", text)
    text = _REFERENCE.sub(rf"\g<1>{name}-\g<2>", text)
    text = text.replace(">*{", f">#{name} *{{", 1)  # matplotlib's own rule, for all elements
    return text.replace("<svg", f'<svg id="{name}" role="img" aria-label={quoteattr(title)}', 1)
