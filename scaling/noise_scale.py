"""The noise scale of gradients, estimated while training; it changes nothing that is trained.

With gradients g_1 .. g_k of k equal parts of b examples each, their mean gbar, and n = k b,

    tr Sigma = b sum_j |g_j - gbar|^2 / (k - 1)         (never negative)
    |G|^2    = mean of g_i . g_j over i != j            (negative where the signal is weak)
    B_simple = tr Sigma / |G|^2

which is the nested two-batch estimator (McCandlish et al. 2018, arXiv:1812.06162, appendix A.1)
with g_b averaged over all parts. Numerator and denominator are averaged over steps apart and only
then divided: the mean of their ratios is biased. B_noise = tr(H Sigma)/(G'HG) is the same in the
coordinates H^(1/2) g. Single examples are parts of b = 1. In anybody's own loop:
scaling.gradient_noise.
Axes: R trials, k parts, P parameters, T measured steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scaling import schema
from scaling.tasks.streams import Batch
from scaling.tasks.task import Moments, Params, Task, noise_task
from scaling.trial import Trial

NETWORK_INTERVAL, TILED_INTERVAL = 64, 256  # steps


def part_moments(gram: Tensor, part_size: int) -> Moments:
    """tr Sigma and |G|^2 [..] from the products g_i . g_j [.., k, k] of k >= 2 parts."""
    k = gram.shape[-1]
    norms = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return moments_of_norms(norms, gram.sum((-2, -1)) / k**2, k, part_size)


def moments_of_norms(norms: Tensor, of_mean: Tensor, k: int, part_size: float) -> Moments:
    """The same from sum_j |g_j|^2 and |gbar|^2, both [..].

    Of parts of b_j examples, b on average (part_size): from sum_j (b_j/b) |g_j|^2 and
    gbar = sum_j b_j g_j / n; E sum_j b_j |g_j - gbar|^2 = (k - 1) tr Sigma holds for these, too.
    """
    spread = (norms - k * of_mean) / (k - 1)
    return {"trace": part_size * spread, "square": of_mean - spread / k}


def double_type(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def squared_norms(leaves: Sequence[Tensor], first_axes: int = 0) -> Tensor:
    """|g|^2 over leaves that may lie on several devices; their first_axes are kept."""
    norms = [
        torch.linalg.vector_norm(
            leaf.reshape(*leaf.shape[:first_axes], -1), dim=-1, dtype=double_type(leaf.device)
        ).to(leaves[0].device)
        for leaf in leaves
    ]
    return torch.stack(norms).square().sum(0)


def products(gradients: Tensor) -> Tensor:
    """g_i . g_j [R, k, k] float64 of gradients [R, k, P]."""
    parts = gradients.double()
    return torch.bmm(parts, parts.mT)


def as_if_replaced(moments: Moments, distinct: int | None) -> Moments:
    """Moments of batches in which none of n examples comes twice, without that batch's bias.

    Such examples repel each other: E[g_i . g_j] = |G|^2 - tr Sigma/(n - 1), so |G|^2 comes out low
    by tr Sigma/(n - 1) and tr Sigma high by as much. distinct: n, or None for independent draws.
    """
    if distinct is None:
        return moments
    trace, square = moments["trace"], moments["square"]
    return {"trace": trace * (distinct - 1) / distinct, "square": square + trace / distinct}


def ratio_error(trace: Tensor, square: Tensor) -> Tensor:
    """Standard error [R] of mean trace / mean square over independent steps, both [T, R]:

    sqrt(sum_t (N_t - r D_t)^2 / (T (T - 1))) / |mean D|.
    """
    n_steps = len(trace)
    residual = trace - trace.mean(0) / square.mean(0) * square
    return (residual.square().sum(0) / (n_steps * (n_steps - 1))).sqrt() / square.mean(0).abs()


def example_moments(gradients: Tensor) -> tuple[Moments, Moments]:
    """Moments [R] of single-example gradients [R, E, P], and themselves with each example left out.

    The second are [E, R], from closed forms: with a_j = |g_j|^2 and c_j the mean of g_j . g_i over
    i != j, leaving j out gives |G|^2 = (E D - 2 c_j)/(E - 2) and tr Sigma = mean of a - |G|^2.
    """
    single = gradients.double()
    n = single.shape[1]
    norms = single.square().sum(-1)  # [R, E]
    total = single.sum(1, keepdim=True)
    pairs = ((single * total).sum(-1) - norms) / (n - 1)  # c_j
    square = pairs.mean(1)
    without = (n * square[:, None] - 2 * pairs) / (n - 2)
    rest = (norms.sum(1, keepdim=True) - norms) / (n - 1)
    moments = {"trace": norms.mean(1) - square, "square": square}
    return moments, {"trace": (rest - without).T, "square": without.T}


def jackknife_error(values: Tensor) -> Tensor:
    """Standard error [R] of an estimate from its values [E, R] with each example left out."""
    n = len(values)
    return ((n - 1) / n * (values - values.mean(0)).square().sum(0)).sqrt()


def _interval(task: Task) -> int:
    """Measuring costs about 2 % then: two parts cost a network a step, and tiles of regression
    trials, whose steps are next to nothing, four to five."""
    return NETWORK_INTERVAL if task.tile_width == 1 else TILED_INTERVAL


class NoiseMeter:
    """Measures one stack as its trials ask for it; `rows` accumulate in the stack itself."""

    def __init__(self, task: Task, trials: Sequence[Trial]) -> None:
        self.config = trials[0].config.noise_scale
        self._batch_size = trials[0].config.batch_size
        self._seeds = [trial.config.seed for trial in trials]
        self._task = noise_task(task, trials[0].config)
        self.interval_steps = self.config.interval_steps or _interval(task)
        whole = trials[0].config.micro_batch_size or 0
        n_parts = self._batch_size // whole if 0 < whole < self._batch_size else self.config.parts
        self._n_parts = min(n_parts, self._batch_size)
        self._part_size = self._batch_size // self._n_parts

    def takes_apart(self, step: int) -> bool:
        """Whether the batch of step `step` (from 1) is measured; a batch of one has no parts."""
        measured = self.config.measure in ("parts", "both") and self._n_parts > 1
        return measured and step % self.interval_steps == 0

    def observe(
        self, params: Params, batch: Batch, members: np.ndarray, step: int
    ) -> dict[str, Tensor]:
        """What `window` needs of this step's batch at these parameters, leaves [R, ..]: little, so
        that a measured step costs little more than its gradients. members [R]: the rows' trials.
        """
        if hasattr(self._task, "parts_of"):
            firsts = members[:: self._task.tile_width]
            generators = [self._generator(self._seeds[number], step, 2) for number in firsts]
            batch = self._task.parts_of(  # pyright: ignore
                batch, self._batch_size, self._n_parts, generators
            )
        gradients = self._task.part_gradients(params, batch, self._n_parts)
        curved = self._task.curvature_root(gradients)
        if curved is None:
            return {"simple": products(gradients)}
        return {"simple": products(gradients), "noise": products(curved), **params}

    def window(self, steps: Sequence[dict[str, Tensor]]) -> dict[str, np.ndarray]:
        """Metrics [R] of the measured steps since the last record."""
        seen = {key: torch.stack([step[key] for step in steps]) for key in steps[0]}
        n_steps, n_rows = seen["simple"].shape[:2]
        quantities: dict[str, Tensor] = {}
        for kind in ("simple", "noise"):
            if kind in seen:
                gram = part_moments(seen.pop(kind), self._part_size)
                moments = as_if_replaced(gram, self._task.distinct_examples)
                trace, square = moments["trace"], moments["square"]
                quantities |= _named(kind, trace.mean(0), square.mean(0)) | {
                    f"{kind}_trace_se": trace.std(0) / n_steps**0.5,
                    f"{kind}_square_se": square.std(0) / n_steps**0.5,
                    f"{kind}_se": ratio_error(trace, square),
                }
        if seen:  # the parameters
            exact = self._exact({key: leaf.flatten(0, 1) for key, leaf in seen.items()})
            over_steps = {key: v.view(n_steps, n_rows).mean(0) for key, v in exact.items()}
            quantities |= _exact_ratios(over_steps)
        return _metrics("parts", quantities)

    def of_examples(self, params: Params, members: np.ndarray, step: int) -> dict[str, np.ndarray]:
        """Metrics [R] of single examples at these parameters; members [R]: the rows' trials."""
        width = self._task.tile_width
        drawn = [self._fresh(self._seeds[number], step) for number in members[::width]]
        batch = tuple(torch.stack(leaves) for leaves in zip(*drawn, strict=True))
        gradients = self._task.part_gradients(params, batch, self.config.examples)
        curved = self._task.curvature_root(gradients)
        quantities: dict[str, Tensor] = {}
        for kind, vectors in (("simple", gradients), ("noise", curved)):
            if vectors is None:
                continue
            moments, without = example_moments(vectors)
            trace, square = moments["trace"], moments["square"]
            ratios = without["trace"] / without["square"]
            quantities |= _named(kind, trace, square) | {
                f"{kind}_trace_se": jackknife_error(without["trace"]),
                f"{kind}_square_se": jackknife_error(without["square"]),
                f"{kind}_se": jackknife_error(ratios),
            }
        quantities |= _exact_ratios(self._exact(params))
        return _metrics("examples", quantities)

    def _exact(self, params: Params) -> dict[str, Tensor]:
        exact = self._task.exact_moments(params) or {}
        return {f"exact_{kind}_{name}": v for kind, of in exact.items() for name, v in of.items()}

    def _fresh(self, seed: int, step: int) -> Batch:
        """Examples that training does not see, fixed by the trial's data and the step."""
        return self._task.fresh_examples(self._generator(seed, step, 1), self.config.examples)

    def _generator(self, seed: int, step: int, purpose: int) -> torch.Generator:
        key = [seed, self._batch_size, step, purpose]
        words = np.random.SeedSequence(key).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


def _named(kind: str, trace: Tensor, square: Tensor) -> dict[str, Tensor]:
    return {kind: trace / square, f"{kind}_trace": trace, f"{kind}_square": square}


def _exact_ratios(means: dict[str, Tensor]) -> dict[str, Tensor]:
    quantities: dict[str, Tensor] = {}
    for kind in ("exact_simple", "exact_noise"):
        if f"{kind}_trace" in means:
            quantities |= _named(kind, means[f"{kind}_trace"], means[f"{kind}_square"])
    return quantities


def _metrics(estimator: str, quantities: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {schema.noise_metric(estimator, key): v.cpu().numpy() for key, v in quantities.items()}
