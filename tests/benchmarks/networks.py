"""What the training loop costs on networks, against a bare PyTorch loop.

    python -m tests.benchmarks.networks [steps|bf16|small|grouped]

steps: seconds per step of this project's loop and of a bare one (same net, optimizer, precision,
channels last, one thread, no tracking, no evaluation), in turn; medians.
bf16: the same, float32 against bf16, and the held-out loss that each ends at.
small: a step of the network of colourization_small in each memory format, compiled or not.
grouped: a convolution of 4 such networks one after the other, against a grouped one of them all.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace

import torch
from torch.nn import functional

from scaling.config import BudgetConfig, EvaluationConfig, TrialConfig
from scaling.data.config import PhotosConfig
from scaling.models.colourization import ColourizationNet
from scaling.models.config import ColourizationModelConfig
from scaling.tasks.colourization import Colourization
from scaling.tasks.config import ColourizationConfig
from scaling.train import train
from scaling.trial import Trial, prepare
from tests.scaling.trials import Memory, optimizer_config

ROUNDS = 7


def config_of(batch_size: int, num_filters: int, n_steps: int) -> TrialConfig:
    return TrialConfig(
        task=ColourizationConfig(),
        model=ColourizationModelConfig(name="conv_transpose", num_filters=num_filters),
        data=PhotosConfig(),
        optimizer=optimizer_config("adam"),
        batch_size=batch_size,
        lr=1e-3,
        budget=BudgetConfig(max_steps=n_steps),
        evaluation=EvaluationConfig(every_step_until=1, ratio=1e9),
        picture_ratio=None,
    )


def ours(trial: Trial) -> float:
    memory = Memory()
    train([trial], memory)
    seconds = memory.outcomes[0].step_seconds
    assert seconds is not None
    return seconds


def bare(problem: Colourization, config: TrialConfig) -> float:
    """The loop that everybody writes."""
    torch.manual_seed(0)
    model = problem.model().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    grey, labels = (torch.as_tensor(leaf) for leaf in problem.train)
    seconds = []
    for _ in range(config.budget.max_steps or 0):
        begin = time.perf_counter()
        rows = torch.randint(len(grey), (config.batch_size,))
        images = grey[rows].contiguous(memory_format=torch.channels_last)
        loss = problem.loss(model(images), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not torch.isfinite(loss):
            break
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def steps() -> None:
    print("batch size  filters   ours ms   bare ms   ratio (median of rounds)")
    for batch_size, filters, n_steps in ((16, 8, 60), (16, 32, 30), (128, 8, 12), (128, 32, 6)):
        config = config_of(batch_size, filters, n_steps)
        [trial] = prepare([config])
        problem = Colourization(config)
        pairs = [(ours(trial), bare(problem, config)) for _ in range(ROUNDS)]
        ratio = statistics.median(a / b for a, b in pairs)
        mine, theirs = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{batch_size:10d} {filters:8d} {mine:9.2f} {theirs:9.2f} {ratio:7.3f}", flush=True)


def bf16() -> None:
    print("batch size  filters   float32 / bf16 seconds a step (median of rounds)   held-out loss")
    for batch_size, filters, n_steps in ((16, 8, 200), (16, 32, 100), (128, 8, 30), (128, 32, 20)):
        config = replace(config_of(batch_size, filters, n_steps), lr=3e-3)
        seconds: dict[str, list[float]] = {"float32": [], "bf16": []}
        losses: dict[str, float] = {}
        for _ in range(ROUNDS):
            for precision, taken in seconds.items():
                memory = Memory()
                [trial] = prepare([replace(config, precision=precision)])
                train([trial], memory)
                result = memory.outcomes[0]
                taken.append(result.step_seconds or 0.0)
                losses[precision] = result.last_loss
        pairs = zip(seconds["float32"], seconds["bf16"], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        print(
            f"{batch_size:10d} {filters:8d}   {ratio:.2f}   {losses['bf16']:.4f} against "
            f"{losses['float32']:.4f} ({100 * (losses['bf16'] / losses['float32'] - 1):+.2f} %)",
            flush=True,
        )


def small_step(batch_size: int, memory_format: torch.memory_format, compiled: bool) -> float:
    """Median seconds, after what the first steps cost."""
    torch.manual_seed(0)
    config = ColourizationModelConfig(name="unet", num_filters=8, norm="none", num_colours=12)
    model = ColourizationNet(config).to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    images = torch.rand(batch_size, 1, 8, 8).contiguous(memory_format=memory_format)
    labels = torch.randint(12, (batch_size, 8, 8))
    seconds = []
    for _ in range(60):
        begin = time.perf_counter()
        optimizer.zero_grad()
        functional.cross_entropy(run(images), labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[10:])


def small() -> None:
    print("batch size   ms a step: contiguous, channels last, compiled, both")
    for batch_size in (4, 32, 256):
        ways = [
            (m, c) for c in (False, True) for m in (torch.contiguous_format, torch.channels_last)
        ]
        taken = [1000 * small_step(batch_size, *way) for way in ways]
        print(f"{batch_size:10d}   {''.join(f'{ms:8.2f}' for ms in taken)}", flush=True)


def grouped_step(batch_size: int, memory_format: torch.memory_format, groups: int) -> float:
    """Forward and backward of 4 convolutions, in 4 / groups calls."""
    torch.manual_seed(0)
    calls = 4 // groups
    images = torch.rand(batch_size, 8 * groups, 8, 8).contiguous(memory_format=memory_format)
    weights = [torch.rand(8 * groups, 8, 3, 3, requires_grad=True) for _ in range(calls)]
    seconds = []
    for _ in range(60):
        begin = time.perf_counter()
        for weight in weights:
            functional.conv2d(images, weight, padding=1, groups=groups).sum().backward()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[10:])


def grouped() -> None:
    print("batch size   ms: one by one, grouped, one by one channels last, grouped channels last")
    for batch_size in (4, 32, 256):
        ways = [(m, g) for m in (torch.contiguous_format, torch.channels_last) for g in (1, 4)]
        taken = [1000 * grouped_step(batch_size, *way) for way in ways]
        print(f"{batch_size:10d}   {''.join(f'{ms:8.3f}' for ms in taken)}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    modes = {"steps": steps, "bf16": bf16, "small": small, "grouped": grouped}
    for name in sys.argv[1:] or ["steps", "bf16"]:
        modes[name]()


if __name__ == "__main__":
    main()
