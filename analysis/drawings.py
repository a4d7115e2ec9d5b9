"""The figures of all topics, in their order, and which groups have them where there are many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby

from analysis.figures.drawing import Drawing
from analysis.groups import file_name, group_label, select
from analysis.measure.model_sizes import Family
from analysis.study import Group, Study
from analysis.topics import TOPICS, one_step_lr
from analysis.topics.topic import Frames, Part, Scope, Topic

MOST_GROUPS = 20  # that have figures; all are in the tables


def draw(study: Study, frames: Frames, most_groups: int = MOST_GROUPS) -> Iterator[Drawing]:
    """Every figure of a study, given its topics' frames; what has no data is not drawn.

    Of more than most_groups groups those of drawn_groups have figures. What speaks of all groups
    comes before the groups' own, if there are several.
    """
    whole = Part(study, frames, drawn_groups(study, most_groups))
    if "one_step_lr" in frames:  # no curves to draw
        yield from one_step_lr.TOPIC.drawings(whole)
        return
    for topic in _topics("study"):
        yield from topic.drawings(whole)
    if study.is_about_losses:
        return
    if len(whole.groups) > 1:
        yield from draw_together(whole)
        yield from _draw_groups(whole)
    else:
        yield from _draw_groups(whole)
        yield from draw_together(whole)


def draw_together(whole: Part) -> Iterator[Drawing]:
    """What speaks of all groups, or of a family: groups that differ in model size alone."""
    for scope, topics in groupby(_topics("all_groups", "family"), key=lambda topic: topic.scope):
        if scope == "all_groups":
            for topic in topics:
                yield from topic.drawings(whole)
        else:
            yield from draw_families(whole, list(topics))


def draw_families(whole: Part, topics: Iterable[Topic] | None = None) -> Iterator[Drawing]:
    topics = _topics("family") if topics is None else topics
    for family in whole.study.families:
        members = [member for member in family.members if member.group in whole.groups]
        if not members:
            continue
        part = replace(
            _part_of(whole, family.others),
            groups=[member.group for member in members],
            family=Family(family.others, members),
        )
        for topic in topics:
            for drawing in topic.drawings(part):
                yield _named(drawing, family.others)


def _draw_groups(whole: Part) -> Iterator[Drawing]:
    topics = _topics("group")
    for group in whole.groups:
        part = replace(_part_of(whole, group), groups=[group])
        for topic in topics:
            for drawing in topic.drawings(part):
                drawing.group = group_label(group)
                yield _named(drawing, group)


def _topics(*scopes: Scope) -> list[Topic]:
    return [topic for topic in TOPICS if topic.scope in scopes]


def _part_of(whole: Part, group: Group) -> Part:
    frames = {name: select(frame, group) for name, frame in whole.frames.items()}
    return replace(whole, frames=frames)


def _named(drawing: Drawing, group: Group) -> Drawing:
    """With the group or family that it speaks of in its name and title."""
    drawing.of = group
    if label := group_label(group):
        drawing.name += f"_{file_name(label)}"
        drawing.title += f" ({label})"
    return drawing


def drawn_groups(study: Study, most_groups: int) -> list[Group]:
    """The groups with figures, in their order: all, or the first most_groups of those with an
    identified fit first, then of most trials."""
    groups = study.groups
    if len(groups) <= most_groups:
        return groups
    keys = [tuple(group.values()) for group in groups]
    identified = {tuple(fit.group.values()) for fit in study.fits if fit.identified}
    known = set(study.group_by) <= set(study.trials)
    n_trials = study.trials.groupby(study.group_by).size().to_dict() if known else {}
    if len(study.group_by) == 1:
        n_trials = {(key if isinstance(key, tuple) else (key,)): n for key, n in n_trials.items()}
    order = sorted(
        range(len(groups)), key=lambda i: (keys[i] not in identified, -n_trials.get(keys[i], 0), i)
    )
    return [groups[i] for i in sorted(order[:most_groups])]


def left_out_words(study: Study, most_groups: int) -> str:
    """Which groups have figures where not all do; "" where they do."""
    n = len(study.groups)
    if n <= most_groups:
        return ""
    return (
        f"Figures show {most_groups} of {n} groups: those with an identified critical batch size "
        "first, then those with the most trials. Tables hold all groups; "
        f"figures.most_groups={n} draws them."
    )
