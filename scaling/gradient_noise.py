"""The noise scale in anybody's own loop: the studies' estimator, fed with gradients."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaling.noise_scale import as_if_replaced, double_type, moments_of_norms, squared_norms
from scaling.rank_gradients import RankGradients
from scaling.ratio import Ratio, ratio_of_means


class GradientNoise:
    """B_simple of a loop's own gradients, with a 95 % interval; what is trained stays the same.

    A measured step has two or more parts of its batch: the micro-batches of gradient accumulation
    (`after_backward` after each, then `step`), the ranks of DistributedDataParallel (`watch` once,
    then the same), or given gradients, such as those of single examples (`add`). Measure every step
    or some, but whole ones.

    The loss is a mean over examples, and .grad ends as the gradient of the whole batch's mean loss:
    each of k micro-batches is divided by k. Call `step` before anything changes .grad: clipping,
    GradScaler.unscale_ (say its scale), optimizer.step, zero_grad. Gradients start at None or 0.

    parameters: on any devices; frozen ones and gradients of None do not count; not used by `add`.
    window: the last so many measured steps are averaged (None: all). weighted: parts may differ in
    size, as each loss is multiplied by its share of the batch's examples. distinct_examples: how
    many there are if no batch has one twice (noise_scale.as_if_replaced; matters for small data).
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] = (),
        window: int | None = 64,
        *,
        weighted: bool = False,
        distinct_examples: int | None = None,
    ) -> None:
        if window is not None and window < 2:
            raise ValueError(f"window={window}: an interval requires 2 steps or more")
        if distinct_examples is not None and distinct_examples < 2:
            raise ValueError(f"distinct_examples={distinct_examples}: must be at least 2")
        self._parameters = list(parameters)
        self._weighted, self._distinct = weighted, distinct_examples
        self._moments: deque[tuple[float, float]] = deque(maxlen=window)
        self._n_skipped = 0
        self._ranks: RankGradients | None = None
        self._begin()

    def _begin(self) -> None:
        self._sizes: list[float] = []
        self._norms: list[Tensor] = []
        self._before: list[Tensor | None] = [None] * len(self._parameters)

    def watch(self, ddp: Any, hook: Any = None, state: Any = None) -> None:
        """Take each rank of a DistributedDataParallel as a part; once, before training.

        A communication hook sees the rank's gradients, then averages them as usual or as
        hook(state, bucket) does. A rank's micro-batches under no_sync() are one part together.
        """
        self._ranks = RankGradients(ddp, self._parameters, hook, state)

    def after_backward(self, n_examples: float) -> None:
        """After the backward pass of a micro-batch (or a rank's batch) of so many examples.

        A micro-batch's gradient is what it added to .grad, which must not be bf16 or float16; this
        keeps one copy of all gradients until `step`. ValueError if there are none.
        """
        gradients = self._gradients()
        if not n_examples > 0:
            raise ValueError(f"n_examples={n_examples}: must be above 0")
        self._sizes.append(n_examples)
        if self._ranks is None:
            pairs = zip(gradients, self._before, strict=True)
            added = [new if old is None else new - old for new, old in pairs if new is not None]
            self._norms.append(squared_norms(added))
            self._before = [None if leaf is None else leaf.clone() for leaf in gradients]

    def step(self, loss_scale: float = 1.0) -> None:
        """After the last backward pass of a step, on every rank.

        loss_scale: what the loss was multiplied by, such as GradScaler.get_scale(). A step with a
        gradient that is not finite is skipped and counted. ValueError if no gradient came, if there
        is one part only, or if parts differ in size and are not weighted.
        """
        sizes, added, of_batch = self._sizes, self._norms, self._before
        self._begin()
        if not sizes:
            raise ValueError("no gradients: call after_backward(n_examples) before step()")
        if not 0 < loss_scale < math.inf:
            raise ValueError(f"loss_scale={loss_scale}: must be finite and above 0")
        if self._ranks is None:
            of_parts = torch.stack(added).tolist()
        else:
            of_parts, sizes = self._ranks.gathered(sum(sizes))
            of_batch = self._gradients()
        if len(set(sizes)) > 1 and not self._weighted:
            raise ValueError(
                f"parts of {min(sizes):g} to {max(sizes):g} examples: make them equal, or multiply "
                "each loss by its share of the examples and say weighted=True"
            )
        of_mean = squared_norms([leaf for leaf in of_batch if leaf is not None]).item()
        shares = np.array(sizes) / sum(sizes)  # what came of a part is its share times g_j
        self._record(
            np.array(of_parts) / (shares * loss_scale) ** 2, of_mean / loss_scale**2, sizes
        )

    def add(
        self,
        gradients: Mapping[str, Tensor | None] | Iterable[Tensor | None],
        n_examples: float | Sequence[float] = 1,
    ) -> None:
        """A whole step at once, from gradients of the mean loss of k parts: leaves [k, ..].

        n_examples of each part, one number or k: 1 for per-example gradients. ValueError if there
        are none, if leaves differ in k, or if there is one part only.
        """
        given = gradients.values() if isinstance(gradients, Mapping) else gradients
        leaves = [leaf.detach() for leaf in given if leaf is not None]
        counts = sorted({leaf.shape[0] if leaf.ndim else 0 for leaf in leaves})
        if len(counts) != 1:
            raise ValueError(f"gradients of {counts or 'no'} parts: expected leaves [k, ..], one k")
        sizes = np.array(n_examples, float)
        if sizes.shape not in ((), (counts[0],)) or not (sizes > 0).all():
            raise ValueError(f"n_examples={n_examples}: expected a number above 0, or {counts[0]}")
        sizes = np.broadcast_to(sizes, counts[0])
        shares = sizes / sizes.sum()
        means = [_mean(leaf, shares) for leaf in leaves]
        norms = squared_norms(leaves, first_axes=1)
        self._record(np.array(norms.tolist()), squared_norms(means).item(), sizes.tolist())

    def estimate(self) -> dict[str, float]:
        """noise_scale, its 95 % interval low to high, and what it is made of, as plain floats.

        noise_scale = trace / square, means over the window's n_steps of tr Sigma and |G|^2. It is
        negative if the signal is too weak. The interval is Fieller's with n_steps - 1 degrees of
        freedom. Given the parameters, errors of steps whose examples are drawn anew do not
        correlate, so the steps need no blocks; a drift of |G|^2 within the window only widens it.
        at_least: all that is known where it has no upper end. NaN: not known. n_skipped: steps
        whose gradients were not finite, in all.
        """
        moments = np.array(self._moments).reshape(-1, 2).T
        known = moments.shape[1] > 0
        ratio = ratio_of_means(*moments) if known else Ratio(math.nan)
        trace, square = moments.mean(1) if known else (math.nan, math.nan)
        return {
            "noise_scale": ratio.value,
            "low": ratio.low,
            "high": ratio.high,
            "at_least": ratio.at_least,
            "trace": float(trace),
            "square": float(square),
            "n_steps": float(moments.shape[1]),
            "n_skipped": float(self._n_skipped),
        }

    def _gradients(self) -> list[Tensor | None]:
        gradients = [leaf.grad if leaf.requires_grad else None for leaf in self._parameters]
        if all(leaf is None for leaf in gradients):
            raise ValueError(
                "no gradients: give parameters that are trained, and call after loss.backward()"
            )
        if any(leaf is not None and leaf.layout != torch.strided for leaf in gradients):
            raise ValueError("sparse gradients cannot be measured: make the layers dense")
        return [None if leaf is None else leaf.detach() for leaf in gradients]

    def _record(self, norms: np.ndarray, of_mean: float, sizes: Sequence[float]) -> None:
        """norms [k]: |g_j|^2."""
        if len(sizes) < 2:
            raise ValueError("one part only: split the batch into 2 or more of equal size")
        weights = np.array(sizes) / np.mean(sizes)
        sums = (torch.tensor(v, dtype=torch.float64) for v in ((weights * norms).sum(), of_mean))
        moments = moments_of_norms(*sums, k=len(sizes), part_size=float(np.mean(sizes)))
        moments = as_if_replaced(moments, self._distinct)
        values = moments["trace"].item(), moments["square"].item()
        if all(map(math.isfinite, values)):
            self._moments.append(values)
        else:
            self._n_skipped += 1


def _mean(leaf: Tensor, shares: np.ndarray) -> Tensor:
    """Over the first axis [k], in double precision: trace is a difference of nearly equal norms."""
    dtype = double_type(leaf.device)
    return torch.tensordot(torch.tensor(shares, dtype=dtype, device=leaf.device), leaf.to(dtype), 1)
