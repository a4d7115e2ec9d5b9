"""Names and units of everything that is recorded: the contract between training and analysis.

A quantity has one name everywhere: the configuration field, the MLflow param or metric, the column
of a frame and the argument of a function. Params of a trial are the leaves of its resolved
configuration by dotted path (``batch_size``, ``optimizer.momentum``), plus the derived ones below.
"""

from __future__ import annotations

import html
import re
from typing import Any, NamedTuple

from scaling.addresses import without_password

# Derived params of a trial, known before its first step.
MODEL_SIZE = "model_size"  # the axis on which models grow (linear regression: inputs D)
IRREDUCIBLE_LOSS = "irreducible_loss"  # the least value that `loss` can take
INITIAL_LOSS = "initial_loss"  # held-out loss at step 0
TRAIN_EXAMPLES = "train_examples"  # in a fixed data set, whether drawn or given; not of a stream
# What one example is called ("sequence") and how much of a unit it holds (64 "tokens"); where a
# task says so. `examples` stays the metric of training.
EXAMPLE, UNIT, UNITS_PER_EXAMPLE = "example", "unit", "units_per_example"
UNIT_NAME = r"[^\W\d_][\w .\-]{0,39}"  # what the first two may be
TASK_CONTENT = "task_content"  # digest of custom code and data; absent for built-in tasks
TARGETS = "targets"  # absolute held-out losses, a JSON list, easiest (largest) first
# Values that had another name in records and configurations of earlier versions.
RENAMED = {("task.name", "own"): "custom", ("optimizer.name", "own"): "custom"}
# What is asked of a trial and may be asked again otherwise: tags of its run, those of the newest
# request. (Params cannot be changed; records before had these as params.)
REQUESTED = (
    *(TARGETS, "relative_targets", "budget.max_steps", "budget.max_examples", "tail_factor"),
    *("divergence_factor", "device", "stack_networks", "rule"),
)
RULE = "rule"  # tag: the rules that made its numbers, of all requests; a JSON list of RuleConfigs
NOT_ASKED = "null"  # value of such a tag where the newest request leaves it out

# Metrics. `step` is always the number of optimizer updates done, an int.
METRICS = {
    "loss": "held-out loss (streaming regression: the exact excess risk, irreducible loss 0)",
    "train_loss": "mean batch loss over the steps since the previous evaluation",
    "examples": "training examples seen: batch_size * step",
    "lr": "learning rate of the step just done; only where a schedule changes it",
    "minimum_norm_distance": "|w - w*| / |w*|, w* = X'(XX')^-1 t; finite data of rank n < D only",
    "row_space_residual": "|part of w outside the row space of X| / |w|; where the last is",
    "weight_1": "the weights themselves, of problems with two",
    "weight_2": "as weight_1",
    "accuracy": "share of held-out pixels or examples classified correctly; classification only",
    "raw_loss": "of the weights themselves, where loss is of their average (evaluation.average)",
    "raw_accuracy": "as raw_loss; every metric of the task has one",
}
# Where `noise_scale` is measured, a metric for each estimator and quantity: see noise_metric.
NOISE_ESTIMATORS = {
    "parts": "equal parts of training batches, averaged over the measured steps since the last",
    "examples": "single examples, drawn apart, at the parameters of the evaluation",
}
NOISE_QUANTITIES = {
    "simple": "B_simple = tr Sigma / |G|^2, in examples; negative where the signal is weak",
    "simple_se": "its standard error",
    "simple_trace": "tr Sigma of one example's gradient",
    "simple_trace_se": "its standard error",
    "simple_square": "|G|^2, unbiased: can be negative",
    "simple_square_se": "its standard error",
    **{f"noise{of}": "the same of B_noise = tr(H Sigma) / G'HG: regression only" for of in
       ("", "_se", "_trace", "_trace_se", "_square", "_square_se")},
    **{f"exact_{kind}{of}": "its closed form at the same parameters: streaming regression only"
       for kind in ("simple", "noise") for of in ("", "_trace", "_square")},
}  # fmt: skip
# Of trials that train alone, evaluation apart: median seconds of a step, examples in a second.
STEP_SECONDS, SPEED = "step_seconds", "examples_per_second"
STEPS_TO_TARGET = "steps_to_target/"  # + target_label: this trial's own first touch, interpolated

# Tags.
# "sweep" (parent run), "trial" (child run), "probe" (timed steps: STEP_SECONDS) or "report" (of a
# report: the frontier of a group and target as metrics FRONTIER, whose step is the batch size)
KIND = "kind"
STUDY = "study"
PREDICTIONS = "predictions"  # of a sweep: its study's, a JSON list; see PREDICTION_KEYS
REPORT = "report"  # of a sweep, one of REPORTS if it is not the first: what its report is about
SWEEP = "sweep"  # name of the sweep: its directory's name
SETTING = "setting"  # of a trial: its name without the seed, by which seeds are grouped
TRIAL_ID = "trial_id"  # identity of the trial: equal ids train the same numbers
OUTCOME = "outcome"  # of the hardest target; "outcome/<target_label>" of each
QUESTION, GRID = "question", "grid"  # of a sweep: the study's question; what is swept
ERROR = "error"  # of a failed trial: the first line
NOT_FINITE = "not_finite"  # of a diverged trial: the tensor that was not
GIT_COMMITS = "git_commits"  # all of them, where a trial was resumed at another commit
LAST_STEP = "last_step"
ROUND = "round"  # of the search that first asked for the trial; absent in a grid
TUNED = "tuned"  # of a search over more than lr: the other params that it tuned, a JSON list
SEARCH_ROUNDS = "search_rounds"  # of a sweep that searched: how many
TUNED_CELLS = "tuned_cells"  # of such a sweep: cells that ended with a best lr at every target
FRONTIER_FILE = "frontier.json"  # of such a sweep: best lrs, why they are, and the tuning budget
SECONDS = "seconds"  # wall seconds of the stack's training divided by its trials

FRONTIER = {
    quantity: f"frontier/{quantity}_by_batch_size" for quantity in ("steps", "examples", "lr")
}

# Of the sweep that a report was attached to, by which studies are ranked: see fitted_metric. Its
# params GRID_PARAM hold the values of what the trials differ in, as of its first report.
FITTED = {
    "critical_batch_size": "E_min / S_min, in examples; absent where the data do not bend",
    "min_steps": "S_min, optimizer updates",
    "min_examples": "E_min, examples",
}
GRID_PARAM = "grid."  # + the param
MODEL_TAG = "registered_model/"  # of a trial's run, + best or last: models:/<name>/<version>

# Saved views of an experiment in MLflow's page of runs.
VIEW_TRIALS, VIEW_STEPS = "batch-scaling-trials", "batch-scaling-loss-vs-steps"
VIEW_EXAMPLES, VIEW_FRONTIER = "batch-scaling-loss-vs-examples", "batch-scaling-frontier"

NO_STORE = "none"  # as tracking.uri: record now, synchronise later

# What a study predicts of its trials, before they run: exactly one of the last three. where: params
# and their values (a list: any of them). Of each trial, a metric: at is of its evaluations "last",
# "greatest", "least" or a step, and every trial must satisfy it. Or of all these trials together, a
# quantity. How near `equals` must come: exactly one of TOLERANCES; standard_errors are the
# quantity's own, and with at_most or at_least it must keep the bound by so many of them.
PREDICTION_KEYS = {
    "says": "a sentence", "source": "where it is derived", "where": "which trials",
    "note": "why it does not hold where that is known: shown only if so",
    "metric": "one of METRICS", "at": "which evaluations", "quantity": "one of QUANTITIES",
    "tolerance": "absolute", "relative_tolerance": "a share of what is predicted",
    "standard_errors": "so many of the quantity",
    "equals": "its value, or theory: the closed form that the quantity knows",
    "at_most": "its upper bound", "at_least": "its lower bound",
}  # fmt: skip
TOLERANCES = ("tolerance", "relative_tolerance", "standard_errors")
THEORY = "theory"  # as value of equals
PREDICTED = ("equals", "at_most", "at_least")
AT = ("last", "greatest", "least")


class QuantityFacts(NamedTuple):
    """meaning: what it is, in its units; tasks: that can have it, all if none is named; metric:
    what the task must measure for it."""

    meaning: str
    tasks: tuple[str, ...] = ()
    metric: str = ""


# Found from several trials by the function of the same name in analysis.quantities.
QUANTITIES = {
    "best_one_step_lr": QuantityFacts(
        "lr of the least mean loss after one step, at each batch size; theory: the closed form",
        ("finite_regression",),
    ),
    "best_lr": QuantityFacts("of each batch size and target; theory: the exact optimum"),
    "critical_batch_size_ratio": QuantityFacts(
        "critical batch sizes of the other optimizers over that of the plainest of them; theory: "
        "of the exact frontiers"
    ),
    "lr_saturation": QuantityFacts(
        "AICc of the best power law of lr in B (exponent 0, 1/2, 1 or free) less that of the "
        "saturating rule; not known with fewer than 7 batch sizes"
    ),
    "lr_slope_small_batches": QuantityFacts(
        "d log lr / d log B of the best lrs at the three smallest batch sizes; theory: of the "
        "exact optima"
    ),
    "lr_slope_large_batches": QuantityFacts("the same at the three largest"),
    "critical_batch_size": QuantityFacts(
        "E_min/S_min of each target, in examples; theory: from the exact frontier"
    ),
    "noise_scale_over_exact": QuantityFacts(
        "measured noise scale over its closed form, of each estimator and part of the run",
        ("linear_regression",),
    ),
    "weight_decay_path_gap": QuantityFacts(
        "|w - w'| / max |w|, greatest along the run: L2 penalty and decoupled decay of the same "
        "weight_decay, of each pair of trials",
        metric="weight_1",
    ),
    "weight_decay_last_gap": QuantityFacts("the same at the last evaluation", metric="weight_1"),
    "weight_decay_fixed_point_gap": QuantityFacts(
        "the same where decoupled weight_decay is that of the penalty / (1 - momentum)",
        metric="weight_1",
    ),
    "loss_over_larger_model": QuantityFacts(
        "held-out loss after twice the steps, or with twice the batch, minus that of a model about "
        "twice as large, all at the same compute and from a batch size near the critical one"
    ),
}

# About how large a batch is worth it; about what was left of the loss (batch sizes may vary, but no
# critical one is asked for); or about both, where only the loss at the end of a trial's budget
# counts, to which its schedule decays.
REPORTS = (BATCH_SIZES, LOSSES, FINAL_LOSSES) = ("batch_sizes", "losses", "final_losses")

REACHED, CENSORED, DIVERGED = "reached", "censored", "diverged"
LEFT_CENSORED = "left_censored"  # of a cell: met at or before its first evaluation


def current_name(param: str, value: Any) -> Any:
    """A param's value under its present name."""
    return RENAMED.get((param, value), value) if isinstance(value, str) else value


def recorded_name(param: str, value: str) -> str:
    """The name that stands in the identity of trials: the first one that it had."""
    return next((old for (key, old), new in RENAMED.items() if (key, new) == (param, value)), value)


def target_label(target_loss: float) -> str:
    """The form in which a target loss stands in metric and tag names."""
    return f"{target_loss:.6g}"


def note_text(text: str) -> str:
    """Text of somebody's in a Markdown note: MLflow shows images and links of any HTML there."""
    return html.escape(" ".join(without_password(text).split()), quote=False)


def note_code(text: str) -> str:
    """A block of code on one line in a Markdown note, whatever the text holds."""
    line = " ".join(text.split())
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{line}\n{fence}"


def noise_metric(estimator: str, quantity: str) -> str:
    """The metric of one quantity of the noise scale by one estimator."""
    return f"noise_scale/{estimator}/{quantity}"


def fitted_metric(quantity: str, target_loss: float, group: str = "") -> str:
    """FITTED of one target, and of one group where there are several (its label in plain signs)."""
    plain = re.sub(r"[^\w.\- ]+", "", group.replace(" = ", " ")).strip()[:150]
    return "/".join(part for part in (quantity, target_label(target_loss), plain) if part)
