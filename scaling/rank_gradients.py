"""Gradients of the ranks of DistributedDataParallel, before they are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from scaling.noise_scale import squared_norms


class RankGradients:
    """|g|^2 of this rank's gradients of the newest backward pass, and the same of all ranks."""

    def __init__(self, ddp: Any, parameters: Sequence[Tensor], hook: Any, state: Any) -> None:
        """ddp: a DistributedDataParallel; hook, state: as register_comm_hook takes them, or None.
        It takes one hook only: RuntimeError if it has one."""
        if hook is None:
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

            hook, state = allreduce_hook, ddp.process_group
        self._group = ddp.process_group
        self._buckets: list[Tensor] = []
        known = {id(leaf) for leaf in parameters}

        def observe(state, bucket):  # DDP compares annotations as objects: strings are refused
            if bucket.index() == 0:
                self._buckets = []  # of a backward pass that was not measured
            pairs = zip(bucket.parameters(), bucket.gradients(), strict=True)
            leaves = [gradient for leaf, gradient in pairs if id(leaf) in known]
            if leaves:
                self._buckets.append(squared_norms(leaves))
            return hook(state, bucket)

        ddp.register_comm_hook(state, observe)

    def gathered(self, n_examples: float) -> tuple[list[float], list[float]]:
        """Of each rank: |g_j/k|^2, the norm of what it adds to the mean, and its examples."""
        n_ranks, rank = dist.get_world_size(self._group), dist.get_rank(self._group)
        if not self._buckets:
            raise ValueError("no gradients: the model that is watched has seen no backward pass")
        norm = torch.stack([bucket.to(self._buckets[0].device) for bucket in self._buckets]).sum()
        table = torch.zeros(2, n_ranks, dtype=torch.float64, device=norm.device)
        table[:, rank] = torch.stack([norm / n_ranks**2, torch.full_like(norm, n_examples)])
        dist.all_reduce(table, group=self._group)
        norms, sizes = table.tolist()
        return norms, sizes
