"""What the loop that everybody writes starts from: the network and the batches of a trial."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from scaling.config import TrialConfig
from scaling.tasks.supervised import SupervisedTask
from tests.scaling.custom_networks import Custom

Batches = Iterator[tuple[Tensor, Tensor]]


def plain_start(kind: str, config: TrialConfig) -> tuple[Custom, nn.Module, Batches]:
    """The problem, its network of seed 0 in float64, and the batches that the trial sees."""
    problem = Custom(kind)
    torch.manual_seed(0)
    model = problem.model()
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.to(torch.complex128 if tensor.is_complex() else torch.float64)
    inputs, labels = torch.from_numpy(problem.train[0]).double(), torch.from_numpy(problem.train[1])
    stream = SupervisedTask(problem, config).streams([0], config.batch_size)

    def batches() -> Batches:
        while True:
            rows = stream.next()[0][0]
            yield inputs[rows], labels[rows]

    return problem, model, batches()
