"""What an example of a problem holds: logged with every trial, or refused in one line."""

from __future__ import annotations

from typing import Any

import pytest

from scaling.limits import ConfigError
from scaling.tasks.units import units_of
from scaling.trial import prepare
from tests.scaling.custom_networks import Custom
from tests.scaling.trials import custom


class Sequences(Custom):
    example, unit, units_per_example = "sequence", "tokens", 4

    def __init__(self) -> None:
        super().__init__("plain")


class Saying:
    def __init__(self, **said: Any) -> None:
        vars(self).update(said)


def test_units_are_facts_of_the_trial_and_not_of_its_identity() -> None:
    config = custom(problem="Custom", kind="plain")
    config.task.path = f"{__name__}.Sequences"  # pyright: ignore[reportAttributeAccessIssue]
    config.task.options = {}  # pyright: ignore[reportAttributeAccessIssue]
    [trial] = prepare([config])
    said = {"example": "sequence", "unit": "tokens", "units_per_example": 4}
    assert trial.facts.items() >= said.items()
    Sequences.unit = "bytes"
    [other] = prepare([config])
    Sequences.unit = "tokens"
    assert (other.facts["unit"], other.trial_id) == ("bytes", trial.trial_id)


def test_nothing_said_is_nothing_logged() -> None:
    assert units_of(Saying()) == {}
    assert units_of(Saying(example="image")) == {"example": "image"}


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"unit": "tokens"}, "the problem's unit=tokens: requires units_per_example, too"),
        ({"units_per_example": 3}, "the problem's units_per_example=3: requires unit, too"),
        ({"unit": "tokens", "units_per_example": 0}, "units_per_example=0: must be a finite numb"),
        ({"example": 3}, "the problem's example=3: must be a plain name in the singular"),
        ({"unit": "<b>", "units_per_example": 1}, "must be a plain name in the plural"),
    ],
)
def test_what_is_refused(said: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        units_of(Saying(**said))
