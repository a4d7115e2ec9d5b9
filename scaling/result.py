"""What comes of a trial, and the form in which a journal holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

BY_TARGET = ("outcomes", "steps_to_target")  # fields of a result that are looked up by target


@dataclass(frozen=True)
class TrialResult:
    """How one trial ended.

    outcome: of its hardest target; if its final loss counts, diverged wherever that was.
    steps_to_target: its own first touch of each target that it reached, interpolated. last_step,
    last_loss: of its last finite evaluation. diverged_step: the step at which it diverged, also
    where that came after the hardest target, in the tail. not_finite: what was not finite then,
    None where the held-out loss grew too large. seconds: its share of the stack's. step_seconds:
    median of a step, evaluation apart, where it trained alone.
    """

    outcome: str
    outcomes: dict[float, str]
    steps_to_target: dict[float, float]
    last_step: int
    last_loss: float
    diverged_step: int | None
    seconds: float
    step_seconds: float | None = None
    not_finite: str | None = None

    @property
    def main_loss(self) -> float:
        """What a sweeper minimises: the last held-out loss, infinite after divergence."""
        return self.last_loss if self.diverged_step is None else float("inf")

    def as_line(self) -> dict[str, Any]:
        """The fields as they stand in a journal, where keys are text."""
        line = asdict(self)
        for key in BY_TARGET:
            line[key] = list(line[key].items())
        return line

    @classmethod
    def from_line(cls, line: dict[str, Any]) -> TrialResult:
        values = {key: line[key] for key in cls.__dataclass_fields__ if key in line}
        for key in BY_TARGET:
            values[key] = dict(map(tuple, values[key]))
        return cls(**values)
