"""Holds the search for the least final loss against the full lattice, on exact final risks.

    python -m tests.benchmarks.final_loss_search

Streaming regression (64 inputs), whose lr decays linearly to 0 at the end of each run: every batch
size and length of the final_losses study, on a lattice of ratio 1.09 between 0.001 and 10. Without
noise, with 8 alike seeds; and with noise: each seed has a factor of its own (15 %) that all its lrs
share, as they see the same data, and one at each lr (3 %). Prints by how much the exact loss at the
lr that is found exceeds the least of the lattice, how far apart the lrs are, and what share of the
lattice's trials (all lrs, all seeds) and of its steps it takes.
"""

from __future__ import annotations

import math

import numpy as np

from scaling.problem import RegressionProblem
from sweeps.search.decide_final_loss import decide_final_loss
from sweeps.search.observations import SearchOptions
from sweeps.search.settings import Lattice
from tests.exact_final_losses import exact_final_losses

SIZES, LENGTHS = (2, 4, 8, 16, 32, 64, 128, 256), (512, 1024, 2048, 4096, 8192, 16384)
LATTICE, N_SEEDS = Lattice(0.1, 1.09), 8
INDICES = LATTICE.within(0.001, 10.0)
OPTIONS = SearchOptions(INDICES[0], INDICES[-1], 0, tuple(range(N_SEEDS)))
PROBLEM = RegressionProblem.power_law(64)
OF_SEED, OF_TRIAL = 0.15, 0.03


def found(risks: dict[int, float], noise: float, random: np.random.Generator) -> tuple[int, int]:
    """The index that a search ends with, and how many trials it takes."""
    of_seed = noise * OF_SEED * random.standard_normal(N_SEEDS)
    known: dict[tuple[int, int], float] = {}
    while trials := (decision := decide_final_loss(known, OPTIONS)).trials:
        for index, seed in trials:
            own = of_seed[seed] + noise * OF_TRIAL * random.standard_normal()
            known[index, seed] = risks[index] * math.exp(own)
    assert decision.state.index is not None
    return decision.state.index, len(known)


def compare(noise: float, repeats: int) -> None:
    random = np.random.default_rng(0)
    lrs = [LATTICE.lr(index) for index in INDICES]
    table = exact_final_losses(PROBLEM, SIZES, LENGTHS, lrs)
    excess, apart, trials, steps, all_steps = [], [], [], 0, 0
    for (_, n_steps), rows in table.groupby(["batch_size", "steps"]):
        risks = dict(zip(INDICES, rows["loss"], strict=True))
        best = min(risks, key=risks.__getitem__)
        for _ in range(repeats):
            index, n = found(risks, noise, random)
            excess.append(risks[index] / risks[best] - 1)
            apart.append(abs(index - best))
            trials.append(n)
            steps += n * int(n_steps)  # type: ignore[call-overload]
            all_steps += len(INDICES) * N_SEEDS * int(n_steps)  # type: ignore[call-overload]
    whole = len(INDICES) * N_SEEDS
    print(
        f"noise x {noise:g}: {len(excess)} cells; loss above the lattice's least: mean "
        f"{100 * np.mean(excess):.2f} %, 95 % of cells {100 * np.quantile(excess, 0.95):.2f} %, "
        f"most {100 * np.max(excess):.2f} %; {np.mean(apart):.1f} steps of the lattice apart; "
        f"{np.mean(trials):.1f} of {whole} trials ({100 * np.mean(trials) / whole:.1f} %), "
        f"{100 * steps / all_steps:.1f} % of the steps"
    )


if __name__ == "__main__":
    compare(0.0, 1)
    compare(1.0, 10)
    compare(2.0, 10)
