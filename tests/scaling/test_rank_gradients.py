"""Two processes train by DistributedDataParallel; their meter says what one process's does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.gradient_noise import GradientNoise
from tests.scaling.ranks import printed_by_ranks
from tests.scaling.ranks_noise import Network, batches, loss_of


def by_ranks(case: str, folder: Path) -> Any:
    program = ["-m", "tests.scaling.ranks_noise"]
    first, second = (json.loads(text) for text in printed_by_ranks(program, case, cwd=folder))
    assert str(first) == str(second)  # as text: NaN is not equal to itself
    return first


def accumulated(every: int = 1) -> dict[str, float]:
    """The same training in this process; each rank's batch is a micro-batch."""
    model = Network()
    noise = GradientNoise(model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step, parts in enumerate(batches()):
        optimizer.zero_grad()
        for inputs in parts:
            (loss_of(model, inputs) / len(parts)).backward()
            if step % every == 0:
                noise.after_backward(len(inputs))
        if step % every == 0:
            noise.step()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return noise.estimate()


CASES = ("accumulated", "own_hook", "some_steps")
LONGER = [pytest.param(case, marks=pytest.mark.long) for case in CASES]


@pytest.mark.parametrize("case", ["plain", *LONGER])
def test_ranks_are_parts(case: str, tmp_path: Path) -> None:
    expected = accumulated(every=2 if case == "some_steps" else 1)
    assert expected["trace"] > 0
    assert expected["n_steps"] == (3 if case == "some_steps" else 5)
    found = by_ranks(case, tmp_path)
    assert found == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.long
def test_ranks_agree_on_what_is_skipped_or_refused(tmp_path: Path) -> None:
    found = by_ranks("not_finite", tmp_path)
    assert (found["n_steps"], found["n_skipped"]) == (4, 1)
    assert found["noise_scale"] == found["noise_scale"]
    assert "parts of 5 to 6 examples" in by_ranks("unequal", tmp_path)
