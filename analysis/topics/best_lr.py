"""How does the best learning rate move with the batch size? Its values and the rules for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.beside import beside
from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import explain_hollow, look, plot_points
from analysis.fit.lr_rules import lr_rule_frame, predict_lr, rule_words
from analysis.groups import group_label
from analysis.measure.bootstrap import stack_draws
from analysis.measure.frontier import lr_draws, usable
from analysis.measure.model_sizes import MeasuredGroup
from analysis.study import Study, join
from analysis.topics.topic import Finding, Frames, Part, Topic
from scaling.schema import REACHED, target_label

_95 = 1.96
_AT_ENDS = 3  # batch sizes at either end, of which a slope is taken
_POWERS = ("constant", "linear", "square_root", "power")
_RULE_NAMES = {
    "constant": ("constant", (0, (3, 1.5, 1, 1.5, 1, 1.5))),
    "power": ("free power, lr ∝ $B^k$", (0, (8, 1.5))),
    "linear": ("linear, lr ∝ B", (0, (1, 1.4))),
    "square_root": ("square root, lr ∝ √B", (0, (5, 2))),
    "saturating": (r"saturating, $\mathrm{lr_{max}}/(1 + B_*/B)^a$", "-"),
    "surge": ("surge, rises then falls", (0, (6, 2, 1, 2))),
}


def lr_rules(study: Study) -> pd.DataFrame:
    """The rules of every group and target: see fit.lr_rules.lr_rule_frame."""
    fits = [
        partial(_rules_of, group, k, target)
        for group in study.measured
        for k, target in enumerate(group.targets)
    ]
    half = len(fits) // 2
    rest = beside(lambda: [fit() for fit in fits[half:]])
    frames = [fit() for fit in fits[:half]] + rest()
    return join(frames) if frames else pd.DataFrame(columns=pd.Index(["rule", "target_loss"]))


def _rules_of(group: MeasuredGroup, k: int, target: float) -> pd.DataFrame:
    """Of the k-th target."""
    points = group.frontier[group.frontier["target_loss"] == target]
    drawn = stack_draws(group.draws, points["batch_size"].tolist(), k)
    sound, lrs = usable(points), lr_draws(points, drawn)
    if sound["lr"].isna().all():  # a table of steps without lrs
        sound, lrs = sound.iloc[:0], None
    return lr_rule_frame(sound, group.group, target, group.optimizer, lrs)


def best_lr_frame(study: Study, rules: pd.DataFrame) -> pd.DataFrame:
    """Best lr of each target and batch size, with interval, and what each rule says there."""
    table = study.frontier.drop(columns=["steps", "examples", "steps_low", "steps_high"])
    for name in rules["rule"].unique() if len(rules) else ():
        table[f"lr_{name}"] = np.nan
    for rule in rules.to_dict("records"):
        group = {key: rule[key] for key in study.group_by}
        chosen = (table["target_loss"] == rule["target_loss"]).to_numpy()
        for key, value in group.items():
            chosen = chosen & (table[key] == value).to_numpy()
        sizes = table.loc[chosen, "batch_size"].to_numpy(dtype=float)
        table.loc[chosen, f"lr_{rule['rule']}"] = predict_lr(rule, sizes)
    return table


def best_lrs(study: Study, frames: Frames) -> Sequence[Finding]:
    """The lr of the fewest steps at each batch size and target; predicted: the exact optimum.

    Best lrs at an edge of what was tried are left out. standard_error: of log lr times lr.
    """
    findings: list[Finding] = []
    for label, rows in _frontiers(study):
        errors = _log_errors(rows)
        for row, error in zip(rows.to_dict("records"), errors, strict=True):
            what = f"{label}batch size {row['batch_size']:.0f}, target {row['target_loss']:.4g}"
            lr, exact = float(row["best"]), float(row["exact"])
            low, high = lr * np.exp(-_95 * error), lr * np.exp(_95 * error)
            predicted = None if np.isnan(exact) else exact
            findings.append(Finding(what, lr, lr * error, float(low), float(high), predicted))
    return findings


def lr_slope_small_batches(study: Study, frames: Frames) -> Sequence[Finding]:
    """d log lr / d log B over the three smallest batch sizes: 1 where gradient noise rules sgd."""
    return [_slope(label, rows.iloc[:_AT_ENDS]) for label, rows in _frontiers(study)]


def lr_slope_large_batches(study: Study, frames: Frames) -> Sequence[Finding]:
    """d log lr / d log B over the three largest batch sizes: 0 where curvature limits the lr."""
    return [_slope(label, rows.iloc[-_AT_ENDS:]) for label, rows in _frontiers(study)]


def lr_saturation(study: Study, frames: Frames) -> Sequence[Finding]:
    """AICc of the best power law (lr = c B^k: k = 0, 1/2, 1 or free) less the saturating rule's.

    Not known below lr_rules.FEWEST_FOR_VERDICT batch sizes. Above 0 the saturating rule is
    preferred; a difference of 2 is weak, of 10 strong evidence.
    """
    findings: list[Finding] = []
    columns = [*study.group_by, "target_loss"]
    for key, rules in frames["lr_rules"].groupby(columns, sort=False, dropna=False):
        of = dict(zip(columns, key if isinstance(key, tuple) else (key,), strict=True))
        what = f"{_label(study, of)}target {of['target_loss']:.4g}"
        aicc = rules.set_index("rule")["aicc"].astype(float)
        gain = float(aicc.reindex(_POWERS).min() - aicc["saturating"])
        known = not np.isnan(gain)
        reason = "" if known else f"not decided: {rules['reason'].iloc[0]}"
        findings.append(Finding(what, gain if known else None, reason=reason))
    return findings


def _frontiers(study: Study) -> Iterator[tuple[str, pd.DataFrame]]:
    """Label and usable frontier of each group and target, with `best` and `exact` lrs."""
    rows = usable(study.frontier)
    if rows.empty:
        raise AnalysisError(
            "best_lr: no batch size reached a target with an lr inside the range that was tried"
        )
    columns = [*study.group_by, "target_loss"]
    exact = pd.DataFrame({name: pd.Series(dtype=rows[name].dtype) for name in columns})
    if len(study.theory):
        exact = study.theory[study.theory["lr_choice"] == "continuous_lr"]
    keys = [*columns, "batch_size"]
    for key, points in rows.groupby(columns, sort=False, dropna=False):
        of = dict(zip(columns, key if isinstance(key, tuple) else (key,), strict=True))
        points = points.sort_values("batch_size")
        lrs = {} if exact.empty else _by_size(exact, of)
        refined = points["lr_refined"].astype(float) if "lr_refined" in points else np.nan
        points = points.assign(
            best=np.where(pd.isna(refined), points["lr"].astype(float), refined),
            exact=[lrs.get(int(size), np.nan) for size in points["batch_size"]],
        )
        assert set(keys) <= set(points.columns)
        yield _label(study, of), points


def _by_size(exact: pd.DataFrame, of: dict[str, Any]) -> dict[int, float]:
    same = np.ones(len(exact), dtype=bool)
    for name, value in of.items():
        column = exact[name]
        same &= (column.isna() if pd.isna(value) else column == value).to_numpy(bool)
    rows = exact[same]
    return dict(zip(rows["batch_size"].astype(int), rows["lr"].astype(float), strict=True))


def _label(study: Study, of: dict[str, Any]) -> str:
    label = group_label({name: of[name] for name in study.group_by})
    return f"{label}, " if label else ""


def _log_errors(rows: pd.DataFrame) -> np.ndarray:
    """Standard errors of log lr [n]: from the 95 % intervals."""
    low, high = (rows[name].to_numpy(float) for name in ("lr_low", "lr_high"))
    return np.log(high / low) / (2 * _95)


def _slope(label: str, rows: pd.DataFrame) -> Finding:
    """By least squares on log lr; predicted: that of the exact optima at the same batch sizes."""
    sizes = rows["batch_size"].to_numpy(float)
    what = f"{label}target {rows['target_loss'].iloc[0]:.4g}, batch sizes "
    what += f"{sizes.min():.0f} to {sizes.max():.0f}"
    if len(rows) < _AT_ENDS:
        return Finding(what, None, reason=f"fewer than {_AT_ENDS} batch sizes with a best lr")
    x = np.log(sizes) - np.log(sizes).mean()
    weights = x / (x @ x)
    value = float(weights @ np.log(rows["best"].to_numpy(float)))
    error = float(np.sqrt(weights**2 @ _log_errors(rows) ** 2))
    exact = float(weights @ np.log(rows["exact"].to_numpy(float)))
    low, high = value - _95 * error, value + _95 * error
    return Finding(what, value, error, low, high, None if np.isnan(exact) else exact)


def drawings(part: Part) -> Iterator[Drawing]:
    best, steps = part.frames["best_lr"], part.frames["steps_by_batch_size"]
    keys = ["target_loss", "batch_size"]
    with_steps = best.merge(steps[[*keys, "steps", "steps_low", "steps_high"]], "left", on=keys)
    if part.frames["steps_by_lr"]["lr"].isna().all():  # a table that does not say at which lr
        return
    for i, target in enumerate(part.targets):
        rules = part.frames["lr_rules"][part.frames["lr_rules"]["target_loss"] == target]
        if (best.loc[best["target_loss"] == target, "lr"].notna()).any():
            yield Drawing(
                "best_lr_against_batch_size" + (f"_{target_label(target)}" if i else ""),
                f"Best learning rate against batch size, target {target:.3g}",
                "The learning rate that reached the target in the fewest steps, with its 95 % "
                "interval (never narrower than half the spacing of the grid), and the rules "
                f"fitted to it.{' ' + verdict if (verdict := rule_words(rules)) else ''}",
                partial(plot_best_lr, with_steps, rules, part.frames["theory"], target),
                "best_lr",
                best,
                folded=i > 0,
            )


def plot_best_lr(
    best_lr: pd.DataFrame, lr_rules: pd.DataFrame, theory: pd.DataFrame, target: float
) -> Figure:
    """Best lr against batch size for one target, with the rules fitted to it.

    Hollow points lie at the edge of the tried grid and are left out of the rules.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        best = best_lr[(best_lr["target_loss"] == target) & best_lr["lr"].notna()]
        best = best[best["outcome"] == REACHED]
        shown = {**look(0, style.target_colors(1)[0]), "zorder": 4}
        plot_points(ax, best, "lr", shown)
        ax.plot([], [], **{**shown, "ls": ""}, label="best lr")
        exact = theory[(theory["target_loss"] == target) & (theory["lr_choice"] == "continuous_lr")]
        if len(exact):
            ax.plot(
                exact["batch_size"], exact["lr"], ls="", marker="+", ms=10, color=style.INK,
                label="exact theory, continuous lr", zorder=3,
            )  # fmt: skip
        _plot_rules(ax, best, lr_rules[lr_rules["target_loss"] == target])
        explain_hollow(ax, best)
        style.batch_size_axis(ax, best["batch_size"])
        style.log_axis(ax, "y", "best learning rate")
        if len(best):
            ax.set_ylim(best["lr"].min() / 2.5, best["lr"].max() * 2.5)
        style.legend_below(figure, ax)
    return figure


def _plot_rules(ax: Axes, best: pd.DataFrame, rules: pd.DataFrame) -> None:
    if best.empty:
        return
    dense = np.geomspace(best["batch_size"].min(), best["batch_size"].max(), 200)
    colors = style.target_colors(len(_RULE_NAMES) + 1)[1:]
    for i, rule in enumerate(rules[rules["shown"].astype(bool)].to_dict("records")):
        name, line = _RULE_NAMES.get(rule["rule"], (rule["rule"], "-"))
        label, width = (f"{name} (preferred)", 2.2) if rule["preferred"] else (name, 1.1)
        shown = {"color": colors[i % len(colors)], "ls": line, "lw": width, "label": label}
        ax.plot(dense, predict_lr(rule, dense), **shown, zorder=2)


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    rules = lr_rules(study)
    return {"lr_rules": rules, "best_lr": best_lr_frame(study, rules)}


TOPIC = Topic(
    "best_lr",
    scope="group",
    frames=_frames,
    drawings=drawings,
    quantities={
        "best_lr": best_lrs,
        "lr_saturation": lr_saturation,
        "lr_slope_large_batches": lr_slope_large_batches,
        "lr_slope_small_batches": lr_slope_small_batches,
    },
)
