"""Muon for the matrices of hidden layers, AdamW for all else: both of torch.optim, as one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class MuonAdamW(torch.optim.Optimizer):
    """torch.optim.Muon (Jordan et al. 2024) for matrices, torch.optim.AdamW for embeddings, head,
    vectors and kernels: all in whose name `adamw_names` (a regular expression) is found or that
    have not two dimensions.

    params: pairs (name, parameter). lr is Muon's, lr * adamw_lr_ratio AdamW's; weight_decay is
    decoupled. adjust_lr is torch's adjust_lr_fn: `match_rms_adamw` gives Muon's update the size of
    AdamW's (Liu et al. 2025, arXiv:2502.16982), so that one lr serves both; `original` is Jordan's.
    ValueError where no parameter is left for Muon, RuntimeError before torch 2.9.
    """

    takes_names = True  # of the parameters, from scaling.optimizers.custom

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        adjust_lr: str = "match_rms_adamw",
        adamw_lr_ratio: float = 1.0,
        adamw_betas: tuple[float, float] = (0.9, 0.95),
        adamw_names: str = "embed|head|wte|wpe",
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise RuntimeError(f"Muon requires torch 2.9 or newer, this is {torch.__version__}")
        named = list(params)
        excluded = re.compile(adamw_names)
        matrices = [p for name, p in named if p.dim() == 2 and not excluded.search(name)]
        chosen = {id(p) for p in matrices}
        others = [p for _, p in named if id(p) not in chosen]
        if not matrices:
            raise ValueError(f"no matrix is left for Muon: all match adamw_names={adamw_names}")
        self._muon = torch.optim.Muon(
            matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn=adjust_lr
        )
        self._adamw = None
        if others:
            self._adamw = torch.optim.AdamW(
                others, lr=lr, betas=(adamw_betas[0], adamw_betas[1]), weight_decay=weight_decay
            )
        self._lr_ratio = adamw_lr_ratio
        inner = [self._muon, *([self._adamw] if self._adamw else [])]
        super().__init__([group for one in inner for group in one.param_groups], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of both; their state and groups are this optimizer's own, as state_dict has
        them. No closure."""
        first, *others = self.param_groups
        self._muon.param_groups, self._muon.state = [first], self.state
        self._muon.step()
        if self._adamw is not None:
            self._adamw.param_groups = [
                {**group, "lr": group["lr"] * self._lr_ratio} for group in others
            ]
            self._adamw.state = self.state
            self._adamw.step()
