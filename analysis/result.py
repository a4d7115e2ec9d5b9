"""A study with the answers of all topics: what `analyse` gives, and how it shows itself."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.caveats import Caveat, fold
from analysis.drawings import MOST_GROUPS, draw
from analysis.figures.choice import choose
from analysis.figures.drawing import Drawing
from analysis.figures.looks import look
from analysis.group_statistics import Settings
from analysis.groups import their_name, with_their_names
from analysis.measure.model_sizes import flops_per_example
from analysis.study import Group, Statistics, Study, joined
from analysis.topics import TOPICS
from analysis.topics.critical_batch_size import critical_words
from analysis.words import rounded
from scaling.schema import LOSSES


class StudyResult(Study):
    """A study whose topics have been answered.

    frames: name -> DataFrame of every topic, the tables of the report: result.frames["laws"],
    result.frames["recommendations"], ...; `list(result.frames)` has the names. They are computed
    when first asked for, once. warnings: what a reader of the numbers has to know. figures: the
    names of the figures that the report has; `plot` gives one of them.
    """

    @cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        frames: dict[str, pd.DataFrame] = {}
        for topic in TOPICS:
            frames |= topic.frames(self, frames)
        return frames

    @cached_property
    def warnings(self) -> list[str]:
        """One plain sentence each; equal ones of several groups are folded."""
        by_group = [*self.caveats]
        whole_study: list[str] = []
        for topic in TOPICS:
            for group, caveat in topic.caveats(self, self.frames):
                if group is None:
                    whole_study.append(str(caveat))
                else:
                    by_group.append((group, caveat))
        folded = [] if self.about == LOSSES else self._folded(by_group)
        return [*self.notes, *folded, *self.norms, *whole_study]

    def _folded(self, caveats: list[tuple[Group, Caveat | str]]) -> list[str]:
        order = {tuple(group.items()): i for i, group in enumerate(self.groups)}

        def place(entry: tuple[Group, Caveat | str]) -> tuple[int, bool]:
            group, caveat = entry
            late = isinstance(caveat, Caveat) and caveat.is_late
            return order.get(tuple(group.items()), len(order)), late

        caveats.sort(key=place)
        return fold(caveats, len(self.groups))

    def drawings(self, most_groups: int = MOST_GROUPS) -> Iterator[Drawing]:
        """The figures of the report with their words and tables; see analysis.drawings."""
        for drawing in draw(self, self.frames, most_groups):
            drawing.units = self.units
            yield drawing

    @property
    def figures(self) -> list[str]:
        """The names of the report's figures, in its order."""
        return [drawing.name for drawing in self._drawn]

    @cached_property
    def _drawn(self) -> list[Drawing]:
        """As the report has them, and none of their figures is kept."""
        return list(self.drawings())

    def plot(
        self,
        name: str = "frontier",
        *,
        group: Any = None,
        style: str = "screen",
    ) -> Figure:
        """A figure of the report, a new one each time, to be restyled and saved.

        name: one of `figures`, without its group if that is given, or short for one: frontier,
        pareto, best_lr, one_curve. group: {column: value} or the value alone, of the group that it
        speaks of; without it, all groups together where there is such a figure. style: screen,
        paper (3.25 inches wide) or paper_wide (6.75).

        The figure is matplotlib's own, but not pyplot's: a notebook shows it once, as the value of
        a cell, and nothing has to be closed. No setting of matplotlib is changed. Raises
        AnalysisError, one line, for a name, group or style that is not there.

        >>> from analysis import analyse_steps
        >>> table = pd.DataFrame({"batch_size": [8, 32, 128, 512, 2048],
        ...                       "steps": [461, 146, 65.6, 46.8, 41.5]})
        >>> figure = analyse_steps(table, n_bootstrap=5).plot("pareto")
        >>> figure.axes[0].get_ylabel()
        'steps to target S'
        >>> figure.savefig("pareto.pdf")
        """
        few = group is None or len(self.groups) <= MOST_GROUPS
        drawings = self._drawn if few else list(self.drawings(len(self.groups)))
        drawing = choose(drawings, name, group)
        with look(style):
            return drawing.own_figure()

    def __repr__(self) -> str:
        """A line of what was read, one for each target's critical batch size, then the warnings."""
        lines = [self._heading()]
        for row in self._summary_frame().to_dict("records"):
            place = ", ".join(f"{their_name(name)}={row[name]}" for name in self.group_by)
            where = f"{place + ', ' if place else ''}target loss {row['target_loss']}"
            text = f"  {where}: critical batch size {row['critical_batch_size']}"
            if row["min_steps"]:
                text += f", S_min {row['min_steps']} steps, E_min {row['min_examples']} "
                text += self.units.examples
            lines.append(text)
        if self.warnings:
            lines += ["warnings:", *(f"  - {warning}" for warning in self.warnings)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The same as a table; names and sentences of a study are escaped."""
        frame = with_their_names(self._summary_frame())
        table = frame.to_html(index=False, border=0, escape=True)
        items = "".join(f"<li>{html.escape(warning)}</li>" for warning in self.warnings)
        warned = f"<ul>{items}</ul>" if items else ""
        return f"<p>{html.escape(self._heading())}</p>{table}{warned}"

    def _summary_frame(self) -> pd.DataFrame:
        """group columns.., target_loss, critical_batch_size, min_steps, min_examples, as texts."""
        rows = [
            {
                **fit.group,
                "target_loss": rounded(fit.target_loss),
                "critical_batch_size": critical_words(fit, self.units),
                "min_steps": rounded(fit.min_steps) if fit.identified else "",
                "min_examples": rounded(fit.min_examples) if fit.identified else "",
            }
            for fit in self.fits
        ]
        columns = ["target_loss", "critical_batch_size", "min_steps", "min_examples"]
        return pd.DataFrame(rows, columns=pd.Index([*self.group_by, *columns]))

    def _heading(self) -> str:
        sizes = self.frontier["batch_size"]
        span = ""
        if len(sizes):
            span = f"{sizes.nunique()} batch sizes, {sizes.min():,} to {sizes.max():,}"
        return f"study {self.study}: {len(self.trials):,} trials, {span}"


def study_result(
    parts: Sequence[Statistics],
    used: pd.DataFrame,
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    names: list[str],
    settings: Settings,
    **given: Any,
) -> StudyResult:
    """The groups of a study together; used: the trials that count, trials: all; names: group_by."""
    targets = {fit.target_loss for part in parts for fit in part.fits}
    return StudyResult(
        **joined(parts),
        study=str(used["study"].iloc[0]),
        trials=trials,
        curves=curves,
        group_by=names,
        targets=sorted(targets, reverse=True),
        tuned=["lr", *(name for name in settings.tuned if name != "lr")],
        n_bootstrap=settings.n_bootstrap,
        seed=settings.seed,
        flops_counted=flops_per_example(used)[1],
        **given,
    )
