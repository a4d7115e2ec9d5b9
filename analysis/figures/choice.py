"""One figure of many, by its name and the group that it speaks of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.errors import AnalysisError
from analysis.figures.drawing import Drawing
from analysis.groups import their_group

SHORT_NAMES = {
    "frontier": "steps_against_batch_size",
    "pareto": "pareto_front",
    "best_lr": "best_lr_against_batch_size",
    "one_curve": "one_curve_of_all",
}
_OF_ALL = "_of_all"  # ends the names of figures that show all groups together
_MOST_LISTED = 20


def choose(drawings: Sequence[Drawing], name: str, group: Any = None) -> Drawing:
    """The drawing of this name, short name or kind.

    group: {column: value, ..} of the group that it speaks of, or a value alone, as far as needed to
    tell it from the others. Without one, a kind that is drawn for several groups is the figure of
    all of them, if there is one. Raises AnalysisError, one line, if no drawing or several are
    meant.
    """
    kind = SHORT_NAMES.get(name, str(name))
    named = [drawing for drawing in drawings if kind in (drawing.name, drawing.kind)]
    if group is None and len(named) != 1:
        named = [one for one in drawings if one.kind == kind + _OF_ALL] or named
    if not named:
        raise AnalysisError(f"there is no figure {name}{_suggestion(kind, drawings)}")
    meant = [one for one in named if group is None or _is_of(one, group)]
    if len(meant) == 1:
        return meant[0]
    groups = [repr(their_group(one.of)) for one in (meant or named) if one.of]
    if not groups:
        raise AnalysisError(f"figure {name} speaks of no single group; leave group out")
    known = f"{len(meant)} groups have it" if meant else f"no group {group} has it"
    raise AnalysisError(f"figure {name}: {known}; give group=.., one of {_some(groups)}")


def _is_of(drawing: Drawing, group: Any) -> bool:
    if not isinstance(group, Mapping):
        return group in drawing.of.values()
    known = {**drawing.of, **their_group(drawing.of)}
    return bool(known) and all(key in known and known[key] == group[key] for key in group)


def _suggestion(name: str, drawings: Sequence[Drawing]) -> str:
    """ "; did you mean a? There are a, b, c": kinds, which are fewer than names."""
    kinds = list(dict.fromkeys(drawing.kind for drawing in drawings))
    short = [short for short, kind in SHORT_NAMES.items() if kind in kinds]
    near = difflib.get_close_matches(name, [*short, *kinds], n=2, cutoff=0.5)
    question = f"; did you mean {' or '.join(near)}?" if near else ";"
    return f"{question} There are {_some([*short, *kinds])}"


def _some(texts: Iterable[str]) -> str:
    texts = list(texts)
    rest = len(texts) - _MOST_LISTED
    return ", ".join(texts[:_MOST_LISTED]) + (f" and {rest} more" if rest > 0 else "")
