"""How all figures look, and how they become bytes: the same input, the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from analysis.figures import looks
from analysis.figures.shown import ShownFigure
from analysis.figures.tooltips import written_into
from analysis.words import short_number as number

WIDTH, HEIGHT = looks.SCREEN_WIDTH, 4.6  # inches, on the screen
INK, MUTED = "#1a1a1a", "#6b6b6b"
# Colour never carries a meaning alone: markers and line styles differ too, so grey prints work.
# seaborn's palette "colorblind", its distinct colours first (to import seaborn takes 0.7 s).
_COLORBLIND = (
    "#0173b2", "#de8f05", "#029e73", "#cc78bc", "#d55e00",
    "#ca9161", "#949494", "#ece133", "#56b4e9", "#fbafe4",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)))
_WIDE = 50.0  # from so many medians on, the largest values would flatten the others
_METADATA = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "batch-scaling",
    "pdf.fonttype": 42,
}


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's defaults (not the user's matplotlibrc) with ours on top."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        mpl.rcParams.update(looks.current().rc)
        yield


def new_axes(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty figure; height in inches counts on the screen, print has one of its own."""
    now = looks.current()
    if now.aspect is not None:
        height = now.width * now.aspect * height / HEIGHT
    figure = ShownFigure(figsize=(now.width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def new_panels(n: int, height: float) -> tuple[Figure, list[Axes]]:
    """n axes below each other with one x axis; height as in new_axes."""
    now = looks.current()
    if now.aspect is not None:
        height = now.width * height / WIDTH
    figure = ShownFigure(figsize=(now.width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0])


def render(figure: Figure, file_format: str) -> bytes:
    """The figure as PNG, SVG or PDF; equal bytes for equal figures (no dates, fixed ids)."""
    buffer = io.BytesIO()
    with house_style():
        if (engine := figure.get_layout_engine()) is not None:
            # Once, and then none: savefig draws a figure with an engine twice, and laid out again
            # it would move a little each time.
            engine.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(buffer, format=file_format, dpi=160, metadata=_METADATA[file_format])
    content = buffer.getvalue()
    return written_into(content, figure) if file_format == "svg" else content


def render_all(figure: Figure) -> dict[str, bytes]:
    """The figure in each format of the current look, SVG first."""
    return {name: render(figure, name) for name in looks.current().formats}


def target_colors(n: int) -> list[Any]:
    """Colours of the targets, hardest first."""
    return [_COLORBLIND[i % len(_COLORBLIND)] for i in range(n)]


def ordered_colors(n: int) -> list[Any]:
    """Colours of an ordered quantity, dark to light also in grey (viridis, not its pale end)."""
    return [mpl.colormaps["viridis"](x) for x in np.linspace(0.0, 0.88, max(n, 2))[:n]]


class PlainTicks(LogLocator):
    """Decades; 1, 2, 5 as well where the axis spans few of them."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        if not 0 < vmin < vmax:  # an axis without data
            return np.array([])
        span = vmax / vmin
        few = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if span < 8 else (1.0, 2.0, 5.0)
        self.set_params(subs=(1.0,) if span > 400 else few)
        return super().tick_values(vmin, vmax)


_ONE_VALUE = 1 + 1e-9  # greatest over least of numbers that differ by rounding alone


def log_axis(ax: Axes, which: str, label: str, *, minor: bool = True) -> None:
    """A logarithmic axis with plain numbers on it instead of powers."""
    low, high = getattr(ax.dataLim, f"interval{which}")
    if 0 < low <= high < low * _ONE_VALUE:  # which matplotlib cannot spread, and says so
        getattr(ax, f"set_{which}lim")(low / 2, high * 2)
    getattr(ax, f"set_{which}scale")("log")
    getattr(ax, f"set_{which}label")(label)
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(PlainTicks())
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    if not minor:
        axis.set_minor_locator(NullLocator())


def value_axis(
    ax: Axes, which: str, label: str, values: Iterable[Any], *, minor: bool = True
) -> bool:
    """An axis of losses: logarithmic where all of them are positive; returns whether it is.

    values: all that is to be shown, targets too (arrays or numbers; NaN is left out). With zeros,
    or of both signs over a wide range, it is linear around 0 and logarithmic beyond; else linear.
    """
    known = np.concatenate([np.ravel(np.asarray(one, float)) for one in values] or [np.empty(0)])
    known = known[np.isfinite(known)]
    if len(known) and (known > 0).all():
        log_axis(ax, which, label, minor=minor)
        return True
    sizes = np.abs(known[known != 0])
    axis = getattr(ax, f"{which}axis")
    if len(sizes):
        some_zero = (known >= 0).all()
        around = float(sizes.min() if some_zero else np.median(sizes))
        if some_zero or sizes.max() > _WIDE * around:
            getattr(ax, f"set_{which}scale")("symlog", linthresh=around)
        if some_zero:
            getattr(ax, f"set_{which}lim")(-around / 2, 1.3 * sizes.max())
            decades = PlainTicks().tick_values(2 * around, sizes.max())
            axis.set_major_locator(FixedLocator([0.0, *decades[decades > 2 * around]]))
    getattr(ax, f"set_{which}label")(label)
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    return False


def batch_size_axis(ax: Axes, batch_sizes: Iterable[float], which: str = "x") -> None:
    """A logarithmic axis with its ticks at (some of) the sampled batch sizes."""
    log_axis(ax, which, "batch size B (examples)", minor=False)
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(FixedLocator(thinned(sorted(set(batch_sizes)), fitting(8))))


def size_axis(ax: Axes, sizes: Iterable[float]) -> None:
    """A logarithmic axis of model sizes with its ticks at (some of) them."""
    log_axis(ax, "x", "model size N", minor=False)
    ax.xaxis.set_major_locator(FixedLocator(thinned(sorted(set(sizes)), 8)))


def thinned(values: Sequence[float], at_most: int) -> list[float]:
    """Every n-th value, n as small as leaves no more than `at_most`."""
    step = max(1, -(-len(values) // at_most))
    return list(values[::step])


def legend_below(figure: Figure, ax: Axes, columns: int = 3) -> None:
    """A legend outside the axes, where it can cover nothing."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        figure_legend(figure, handles, labels, columns)


def figure_legend(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int, title: str = ""
) -> None:
    """A legend below in as many columns as fit; in print the figure grows by its height."""

    def place(n: int) -> Any:
        where = "outside lower center"
        return figure.legend(handles, labels, loc=where, ncols=n, title=title or None)

    legend = place(columns)
    while columns > 1 and legend.get_window_extent().width > figure.bbox.width:
        legend.remove()
        columns -= 1
        legend = place(columns)
    if looks.current().aspect is not None:
        figure.set_figheight(
            figure.get_figheight() + legend.get_window_extent().height / figure.dpi
        )


def legend_beside(figure: Figure, ax: Axes, title: str) -> None:
    """A legend to the right; below where the figure is narrow."""
    handles, labels = ax.get_legend_handles_labels()
    if handles and looks.current().width < 5:
        figure_legend(figure, handles, labels, 6, title)
    elif handles:
        figure.legend(handles, labels, loc="outside right upper", title=title)


def plain_text(name: str) -> str:
    """A name from the study as matplotlib shows it: `$` starts no formula, `_` hides no entry."""
    text = name.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def fitting(at_screen: int) -> int:
    """How many tick labels fit along the axis where so many fit on the screen."""
    return max(5, round(at_screen * min(1.0, looks.current().width / WIDTH)))


def legend_right(ax: Axes) -> None:
    """A legend of one panel, right of it."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
