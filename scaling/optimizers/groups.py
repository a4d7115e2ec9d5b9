"""Factors on lr and weight decay by group of parameters, for optimizers of either kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scaling.param_groups import ParamGroup

Leaves = dict[str, Tensor]
Hyper = dict[str, Tensor]


@dataclass(frozen=True)
class Groups:
    """groups: with the rest as the last one; of_name: the number of each parameter's group."""

    groups: Sequence[ParamGroup]
    of_name: Mapping[str, int]

    def names(self, known: Iterable[str]) -> dict[ParamGroup, list[str]]:
        """The parameters of each group that holds any."""
        by_number = {number: [] for number in range(len(self.groups))}
        for name in known:
            by_number[self.of_name[name]].append(name)
        return {self.groups[number]: names for number, names in by_number.items() if names}


@dataclass
class GroupFactors:
    """Of the leaves of a stack: places [...], of each number of a leaf the group; factors [G]."""

    places: Leaves
    factors: dict[str, Tensor]  # of lr and weight_decay, float64
    _known: dict[str, Hyper] = field(default_factory=dict)  # of each leaf, while lr is constant

    @classmethod
    def of_leaves(
        cls, groups: Groups, leaves: Leaves, shaped: Callable[[Leaves], Leaves]
    ) -> GroupFactors:
        """leaves: of one trial; shaped: views of them in the parameters' own shapes."""
        marks = {key: torch.full_like(leaf, len(groups.groups) - 1) for key, leaf in leaves.items()}
        for name, view in shaped(marks).items():
            number = groups.of_name[name]
            view.fill_(complex(number, number) if view.is_complex() else number)
        factors = {
            "lr": [group.lr_factor for group in groups.groups],
            "weight_decay": [group.weight_decay_factor for group in groups.groups],
        }
        return cls(
            {key: (m.real if m.is_complex() else m).long() for key, m in marks.items()},
            {key: torch.tensor(values, dtype=torch.float64) for key, values in factors.items()},
        )

    def applied(self, shaped: dict[str, Hyper], hyper: Hyper, constant: bool) -> dict[str, Hyper]:
        """The coefficients of each leaf with lr and weight_decay [R, ...] number by number.

        hyper: [R], float64, in which they are multiplied, as torch.optim does.
        """
        if self._known and constant:
            by_leaf = self._known
        else:
            by_leaf = {key: self._by_number(key, hyper, of["lr"]) for key, of in shaped.items()}
            self._known = by_leaf if constant else {}
        return {key: {**of, **by_leaf[key]} for key, of in shaped.items()}

    def _by_number(self, leaf: str, hyper: Hyper, like: Tensor) -> Hyper:
        tables = {k: hyper[k][:, None] * of for k, of in self.factors.items() if k in hyper}
        places = self.places[leaf]
        return {key: table.to(like.device, like.dtype)[:, places] for key, table in tables.items()}

    def forget(self) -> None:
        """The rows have changed."""
        self._known = {}
