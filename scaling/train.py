"""THE training loop: trials in, results out. A single trial is a stack of one."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scaling.averaging import RAW
from scaling.clipping import clipped
from scaling.config import TrialConfig
from scaling.draws import EVALUATION, MEASURING, TRAINING, kept_draws, seed_draws
from scaling.noise_scale import NoiseMeter
from scaling.optimizers.config import CustomOptimizerConfig
from scaling.outcome import Watch
from scaling.recorder import Begin, Evaluation, Recorder, TrainState
from scaling.result import TrialResult
from scaling.schedules import first_due, grown, next_evaluation
from scaling.stack import Stack
from scaling.tasks.make import make_task
from scaling.tasks.task import Params, StackedTask, Task
from scaling.trial import Trial

TRAINING_LOSS = "training loss"


def train(
    trials: Sequence[Trial], recorder: Recorder, begin: Begin | None = None
) -> list[TrialResult]:
    """Train the trials of one stack to their ends; their results, in order.

    A trial ends at the first of: divergence (a non-finite loss or update, which is not applied, or
    a held-out loss above divergence_factor times the initial one), its budget, or the first
    evaluation at or after tail_factor times the step at which it first touched its hardest target.
    From `begin` on it goes as if it had never stopped, bit for bit.
    """
    with kept_draws():
        task = make_task(trials[0].config)
        with torch.inference_mode(_by_hand(task, trials[0].config)):
            return _train(task, trials, recorder, begin)


def _by_hand(task: Task, config: TrialConfig) -> bool:
    """Nothing asks autograd for anything, which then costs nothing either."""
    custom = isinstance(config.optimizer, CustomOptimizerConfig)
    return isinstance(task, StackedTask) and not custom


def _train(
    task: Task, trials: Sequence[Trial], recorder: Recorder, begin: Begin | None
) -> list[TrialResult]:
    first = trials[0].config
    stack = Stack.start(task, trials)
    watch = Watch(trials)
    meter = NoiseMeter(task, trials) if first.noise_scale.measure != "none" else None
    step, due, next_picture, next_noise = 0, 0, 0.0, 0.0
    if begin is not None:
        step, due = begin.state.step, begin.state.due
        stack.restore(begin.state.stack, begin.rows)
        watch.replay(begin.curves, [begin.state.seconds[row] for row in begin.rows])
        next_picture = first_due(first.picture_ratio, first.evaluation, due)
        next_noise = first_due(first.noise_scale.ratio, first.evaluation, due)
    while True:
        if step == due or step in watch.budgets:
            evaluated = stack.evaluated
            measured = _held_out(task, stack, evaluated)
            factor = stack.lr_factor(step) if step else None
            if meter is not None and step == due:
                _seed(task, MEASURING, *_key(stack, first, step))
                measured |= _noise(meter, stack, step, next_noise)
                next_noise = grown(next_noise, step, first.noise_scale.ratio)
            if first.save_models:
                rows = _evaluated(stack, watch, step, due)
                _export(task, stack, evaluated, watch, recorder, measured["loss"], rows)
            ended = _evaluate(stack, watch, recorder, step, due, measured, factor)
            if first.picture_ratio:
                everyone = step == due and step >= next_picture
                rows = stack.counted & (everyone | np.isin(stack.member, ended))
                _draw(task, stack, evaluated, recorder, step, rows)
                next_picture = (
                    grown(next_picture, step, first.picture_ratio) if everyone else next_picture
                )
            for number in ended:
                recorder.outcome(number, watch.result(number))
            if step == due:
                stack.forget_train_loss()
                due = next_evaluation(first.evaluation, step)
                capped = watch.capped(ended) if trials[0].cap is not None else ended[:0]
                if len(capped):
                    recorder.capped(_state(step, due, stack, watch, capped))
            if not stack.drop(ended):
                return watch.results()
        if recorder.wants_state():
            recorder.state(_state(step, due, stack, watch))
        clock = time.perf_counter()
        step += 1
        non_finite = take_step(task, stack, first, step, meter)
        watch.took(time.perf_counter() - clock)
        if non_finite:
            for number, what in non_finite.items():
                recorder.outcome(number, watch.diverge(step, number, what))
            if not stack.drop(np.array(list(non_finite))):
                return watch.results()


def take_step(
    task: Task, stack: Stack, config: TrialConfig, step: int, meter: NoiseMeter | None = None
) -> dict[int, str]:
    """Make update number `step` (from 1) of all rows; the trials whose loss or update is not
    finite, and what of it."""
    batch = stack.next_batch()
    if meter is not None and meter.takes_apart(step):
        _seed(task, MEASURING, *_key(stack, config, step))
        stack.noise.append(meter.observe(stack.params, batch, stack.member, step))
    _seed(task, TRAINING, *_key(stack, config, step))
    losses, gradients = task.losses_and_gradients(stack.params, batch)
    bounded = gradients if config.clip_norm is None else clipped(gradients, config.clip_norm)
    params = stack.optimizer.step(bounded, stack.params, step, stack.lr_factor(step))
    if hasattr(task, "hold_idle"):
        task.hold_idle(gradients, stack.params, params)  # pyright: ignore
    updated = {key: params[key] for key in gradients}  # buffers may hold what they like
    rows = _non_finite(losses, updated)
    stack.advance(losses, params)
    if rows is None:
        return {}
    non_finite = {}
    for row in reversed(np.flatnonzero(rows.numpy())):
        parts = {"gradient of ": gradients, "": updated}
        non_finite[int(stack.member[row])] = _what(task, losses[row], parts, int(row))
    return non_finite


def _seed(task: Task, *key: int) -> None:
    """What the task draws next follows from `key`."""
    if getattr(task, "draws", True):
        seed_draws(*key)


def _key(stack: Stack, config: TrialConfig, step: int) -> tuple[int, int, int]:
    return stack.first_seed, config.batch_size, step


def _state(
    step: int, due: int, stack: Stack, watch: Watch, numbers: np.ndarray | None = None
) -> TrainState:
    saved = stack.saved(numbers)
    return TrainState(step, due, watch.seconds[saved["numbers"]].tolist(), saved)


def _held_out(task: Task, stack: Stack, evaluated: Params) -> dict[str, np.ndarray]:
    """Held-out metrics [R] of the parameters evaluated, and where these are averages those of the
    weights themselves beside them."""
    _seed(task, EVALUATION)
    measured = {key: leaf.numpy() for key, leaf in task.held_out_metrics(evaluated).items()}
    if stack.average is not None:
        _seed(task, EVALUATION)
        raw = task.held_out_metrics(stack.params)
        measured |= {RAW + key: leaf.numpy() for key, leaf in raw.items()}
    return measured


def _noise(meter: NoiseMeter, stack: Stack, step: int, next_noise: float) -> dict[str, np.ndarray]:
    """Metrics [R] of the noise scale that are due at this evaluation."""
    metrics: dict[str, np.ndarray] = {}
    if len(stack.noise) >= meter.config.window_steps:
        metrics |= meter.window(stack.noise)
        stack.noise = []
    if meter.config.measure in ("examples", "both") and step >= next_noise:
        metrics |= meter.of_examples(stack.params, stack.member, step)
    return metrics


def _draw(
    task: Task, stack: Stack, evaluated: Params, recorder: Recorder, step: int, rows: np.ndarray
) -> None:
    """Record a picture of what each of these rows [R] does, if the task has any."""
    pictures = task.pictures(evaluated) if rows.any() else None
    if pictures is None:
        return
    for row in np.flatnonzero(rows):
        recorder.picture(step, int(stack.member[row]), pictures[row])


def _evaluated(stack: Stack, watch: Watch, step: int, due: int) -> np.ndarray:
    """Rows [R] of trials with an evaluation at this step: it may be the end of some alone."""
    return stack.counted if step == due else stack.counted & (watch.limit[stack.member] == step)


def _export(
    task: Task,
    stack: Stack,
    evaluated: Params,
    watch: Watch,
    recorder: Recorder,
    losses: np.ndarray,
    rows: np.ndarray,
) -> None:
    """Hand over the networks of these rows [R]: the last one, and the best one if it is."""
    for row in np.flatnonzero(rows):
        state, number = task.exported(evaluated, int(row)), int(stack.member[row])
        if state is None or not np.isfinite(losses[row]):
            continue
        recorder.model(number, "last", state)
        if losses[row] < watch.best_loss[number]:
            recorder.model(number, "best", state)


def _evaluate(
    stack: Stack,
    watch: Watch,
    recorder: Recorder,
    step: int,
    due: int,
    measured: dict[str, np.ndarray],
    factor: float | None,
) -> np.ndarray:
    """Record the evaluation of every trial that has one at this step; the numbers that ended."""
    rows = _evaluated(stack, watch, step, due)
    numbers = stack.member[rows]
    measured = {key: values[rows] for key, values in measured.items()}
    loss = measured["loss"]
    if not len(numbers):
        return numbers
    train_loss = stack.mean_train_loss(rows) if step else None
    finite = np.isfinite(loss)
    recorder.evaluation(
        Evaluation(
            step,
            numbers[finite],
            loss[finite],
            None if train_loss is None else train_loss[finite],
            None if factor is None else watch.lr[numbers[finite]] * factor,
            {key: values[finite] for key, values in measured.items() if key != "loss"},
        )
    )
    return watch.look(step, numbers, loss)


def _non_finite(losses: Tensor, params: Params) -> Tensor | None:
    """Rows [R] whose loss or updated parameters are not finite; None where there are none.

    The sum over all rows is finite if every number is (a sum that overflows only costs the look
    row by row), so a step costs one number read back from the device.
    """
    total = losses.sum()
    for leaf in params.values():
        total = total + leaf.sum()
    if math.isfinite(total.item()):
        return None
    finite = torch.isfinite(losses)
    for leaf in params.values():
        finite &= torch.isfinite(leaf).flatten(1).all(1).cpu()
    return None if finite.all() else ~finite


def _what(task: Task, loss: Tensor, parts: dict[str, Params], row: int) -> str:
    """The first tensor of this row that is not finite: its loss, a gradient, or a parameter."""
    if not torch.isfinite(loss):
        return TRAINING_LOSS
    shaped = getattr(task, "shaped", lambda leaves: leaves)
    for kind, leaves in parts.items():
        for name, leaf in shaped({key: value[row] for key, value in leaves.items()}).items():
            if not torch.isfinite(leaf).all():
                return kind + name
    raise AssertionError("every tensor is finite")
