"""What measuring the noise scale costs by default: python -m tests.benchmarks.noise_scale

One run of the training loop's steps with noise_scale.measure=parts, one thread. Measured steps
stand among plain ones, so both see the same machine: the cost is (median seconds of a measured
step and its share of a record - median of the plain steps around it) / (interval * the latter).
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from scaling.config import NoiseScaleConfig, TrialConfig
from scaling.data.config import PhotosConfig
from scaling.models.config import ColourizationModelConfig
from scaling.noise_scale import NoiseMeter
from scaling.optimizers.config import AdamConfig, SgdConfig
from scaling.stack import Stack
from scaling.tasks.config import ColourizationConfig, LinearRegressionConfig
from scaling.tasks.make import make_task
from scaling.train import take_step
from scaling.trial import prepare

MEASURED = NoiseScaleConfig("parts")
LEAST_MEASURED, LEAST_SECONDS = 12, 6.0
AROUND = 5  # plain steps before a measured one that it is held against


def compare(name: str, configs: list[TrialConfig]) -> None:
    trials = prepare([replace(config, noise_scale=MEASURED) for config in configs])
    config = trials[0].config
    task = make_task(config)
    stack, meter = Stack.start(task, trials), NoiseMeter(task, trials)
    noise, interval = config.noise_scale, meter.interval_steps
    plain: list[float] = []
    costs: list[float] = []
    around: list[float] = []
    step, begun = 0, time.perf_counter()
    while len(costs) < LEAST_MEASURED or time.perf_counter() - begun < LEAST_SECONDS:
        step += 1
        clock = time.perf_counter()
        take_step(task, stack, config, step, meter)
        seconds = time.perf_counter() - clock
        if not meter.takes_apart(step):
            around.append(seconds)
            continue
        clock = time.perf_counter()
        meter.window(stack.noise * noise.window_steps)
        record = (time.perf_counter() - clock) / noise.window_steps
        stack.noise = []
        usual = float(np.median(around[-AROUND:]))
        plain.append(usual)
        costs.append((seconds + record - usual) / (interval * usual))
    low, middle, high = np.quantile(costs[1:], (0.25, 0.5, 0.75))
    print(
        f"{name:36s} {1e3 * np.median(plain):8.3f} ms a step; measuring costs {middle:.2%} "
        f"(quartiles {low:.2%} to {high:.2%}, {len(costs) - 1} measured steps)",
        flush=True,
    )


def regression(batch_size: int, n_lrs: int) -> list[TrialConfig]:
    one = TrialConfig(
        task=LinearRegressionConfig(), optimizer=SgdConfig(), batch_size=batch_size, lr=0.01
    )
    return [replace(one, lr=0.01 * (1 + k / 100), seed=s) for k in range(n_lrs) for s in range(8)]


def colourization(batch_size: int, norm: str, micro: int | None = None) -> list[TrialConfig]:
    model = ColourizationModelConfig(name="conv_transpose", num_filters=8, norm=norm)
    one = TrialConfig(
        task=ColourizationConfig(),
        optimizer=AdamConfig(),
        model=model,
        data=PhotosConfig(side=16, held_out_images=100),
        batch_size=batch_size,
        lr=0.001,
        micro_batch_size=micro,
        targets=[],
    )
    return [one]


def main() -> None:
    torch.set_num_threads(1)
    for size in (2, 16, 256, 2048):
        compare(f"regression, 128 trials, B = {size}", regression(size, 16))
        compare(f"regression, one trial, B = {size}", regression(size, 1)[:1])
    for size in (16, 128):
        compare(f"colourization, group norm, B = {size}", colourization(size, "group"))
    compare("colourization, batch norm, B = 64", colourization(64, "batch"))
    compare("colourization, micro batches of 16", colourization(64, "group", 16))


if __name__ == "__main__":
    main()
