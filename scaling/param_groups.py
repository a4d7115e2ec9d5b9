"""Parameters with a learning rate or weight decay of their own, as torch.optim's param_groups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from scaling.config import TrialConfig
from scaling.limits import ConfigError, check_limits, limited

KEY = "param_groups"
KINDS = {"vectors": range(2), "matrices": range(2, 100)}  # numbers of axes


@dataclass(frozen=True)
class ParamGroup:
    """params: vectors (at most one axis: biases, scales of norms), matrices (kernels and tables of
    embeddings too), or a regular expression that is searched for in a parameter's name."""

    params: str = limited("???")
    lr_factor: float = limited(1.0, least=0)
    weight_decay_factor: float = limited(1.0, least=0)

    def holds(self, name: str, n_axes: int) -> bool:
        if self.params in KINDS:
            return n_axes in KINDS[self.params]
        return re.search(self.params, name) is not None


REST = ParamGroup("")  # whatever no group holds


def param_groups(config: TrialConfig) -> list[ParamGroup]:
    """The configured groups; ConfigError for what is none."""
    return [_group(f"{KEY}[{number}]", given) for number, given in enumerate(config.param_groups)]


def _group(key: str, given: Any) -> ParamGroup:
    known = [one.name for one in fields(ParamGroup)]
    if not isinstance(given, Mapping) or not set(given) <= set(known) or "params" not in given:
        allowed = f"must be {{params: .., and of {' and '.join(known[1:])} what is not 1}}"
        raise ConfigError(key, given, allowed)
    group = ParamGroup(**given)  # pyright: ignore[reportCallIssue]
    check_limits(group, f"{key}.")
    try:
        re.compile(group.params)
    except (re.error, TypeError) as error:
        allowed = f"must be {', '.join(KINDS)} or a regular expression ({error})"
        raise ConfigError(f"{key}.params", group.params, allowed) from None
    return ParamGroup(group.params, float(group.lr_factor), float(group.weight_decay_factor))


def grouped(groups: Sequence[ParamGroup], n_axes: Mapping[str, int]) -> dict[str, int]:
    """The number of each parameter's group, the first that holds it; len(groups) for the rest.

    n_axes: of each trained parameter. ConfigError for a group without one.
    """
    of_name = {
        name: next((i for i, group in enumerate(groups) if group.holds(name, n)), len(groups))
        for name, n in n_axes.items()
    }
    for number, group in enumerate(groups):
        if number not in of_name.values():
            names = ", ".join(list(n_axes)[:6]) + (", .." if len(n_axes) > 6 else "")
            allowed = f"holds no trained parameter that no group before it holds; there are {names}"
            raise ConfigError(f"{KEY}[{number}].params", group.params, allowed)
    return of_name
