"""Figures that show and save themselves alike in every notebook and under every style."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure that pyplot does not manage, so that a notebook shows it once: as a cell's value."""

    def _repr_png_(self) -> bytes:
        """For notebooks without pyplot; where pyplot is, IPython asks matplotlib instead."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def savefig(self, fname: Any, *, transparent: bool | None = None, **kwargs: Any) -> None:
        """As Figure's own, on the figure's paper: that of a dark style would hide dark ink."""
        if not transparent:
            kwargs.setdefault("facecolor", self.get_facecolor())
        super().savefig(fname, transparent=bool(transparent), **kwargs)
