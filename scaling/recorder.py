"""What the training loop leaves behind, and what it goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from scaling.outcome import Curve
from scaling.result import TrialResult
from scaling.stack import StackState


@dataclass(frozen=True)
class Evaluation:
    """Some trials at one step. A trial's number is its position in the stack; arrays [N].

    loss: held out. train_loss: mean batch loss since the last evaluation, None at step 0.
    lr: only where it is scheduled. metrics: what else the task measures on held-out data.
    """

    step: int
    numbers: np.ndarray
    loss: np.ndarray
    train_loss: np.ndarray | None = None
    lr: np.ndarray | None = None
    metrics: dict[str, np.ndarray] = field(default_factory=dict)


class Recorder(Protocol):
    """Where the loop leaves what it sees."""

    def evaluation(self, evaluation: Evaluation) -> None: ...

    def outcome(self, number: int, result: TrialResult) -> None: ...

    def picture(self, step: int, number: int, picture: np.ndarray) -> None:
        """uint8 [H, W, 3]: what a trial does at this step."""
        ...

    def model(self, number: int, kind: str, state: dict[str, Tensor]) -> None:
        """kind: best or last, whenever there is a newer one."""
        ...

    def wants_state(self) -> bool:
        """Asked before every step."""
        ...

    def state(self, state: TrainState) -> None:
        """Given where it was wanted; what it raises ends the training."""
        ...

    def capped(self, state: TrainState) -> None:
        """Trials of a search that end at their caps: a later round may ask for more of them."""
        ...


@dataclass(frozen=True)
class TrainState:
    """A stack between two steps: all that decides what follows, but for the curves on record."""

    step: int
    due: int
    seconds: list[float]
    stack: StackState


@dataclass(frozen=True)
class Begin:
    """A saved state, the row of each trial in it, and their curves up to it."""

    state: TrainState
    rows: Sequence[int]
    curves: Sequence[Curve]
