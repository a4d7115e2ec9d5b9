"""A rank's part in training by DistributedDataParallel, as a program: what its meter says.

python -m tests.scaling.ranks_noise CASE, with what torchrun sets; prints one JSON value.
"""

from __future__ import annotations

import contextlib
import json
import sys

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from scaling.gradient_noise import GradientNoise

N_RANKS, PART_SIZE, N_STEPS = 2, 6, 5


class Network(nn.Module):
    """Has a frozen parameter and one without a gradient; buckets of 1 KiB hold a layer each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 3)).double()
        self.layers[0].bias.requires_grad_(False)
        self.unused = nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)


def batches() -> Tensor:
    """[step, part, example, input]"""
    generator = torch.Generator().manual_seed(1)
    shape = (N_STEPS, N_RANKS, PART_SIZE, 20)
    return torch.randn(shape, generator=generator, dtype=torch.float64) + 0.5


def loss_of(model: nn.Module, inputs: Tensor) -> Tensor:
    return (model(inputs) - inputs[:, :3]).square().sum(1).mean()


def train(case: str) -> GradientNoise:
    network = Network()
    model = DistributedDataParallel(network, bucket_cap_mb=0.001, find_unused_parameters=True)
    noise = GradientNoise(model.parameters())
    if case == "own_hook":
        noise.watch(model, hook=allreduce_hook, state=None)
    else:
        noise.watch(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step, parts in enumerate(batches()):
        optimizer.zero_grad()
        mine = parts[dist.get_rank()]
        chunks = list(mine.chunk(3)) if case == "accumulated" else [mine]
        if case == "unequal":
            chunks = [mine[: PART_SIZE - dist.get_rank()]]
        if case == "not_finite" and step == 2 and dist.get_rank() == 1:
            chunks[0][0] = torch.inf
        for number, inputs in enumerate(chunks, 1):
            last = number == len(chunks)
            with contextlib.nullcontext() if last else model.no_sync():
                (loss_of(model, inputs) / len(chunks)).backward()
            if case != "some_steps" or step % 2 == 0:
                noise.after_backward(len(inputs))
        if case != "some_steps" or step % 2 == 0:
            noise.step()
        if case == "not_finite" and step == 2:
            continue
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return noise


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        said = train(sys.argv[1]).estimate()
    except ValueError as error:
        said = str(error)
    print(json.dumps(said))
    dist.destroy_process_group()
