"""What intervals from tables of final losses hold, by simulation on planted tables."""

from __future__ import annotations

import numpy as np

from analysis.final_loss_study import analyse_final_losses
from scaling.schema import REACHED
from tests.analysis.planted_final_losses import (
    BEST_SIZE,
    FLOOR,
    LR_POWERS,
    critical_batch_size,
    hyperbolas,
    laws_of,
    steps,
    with_optimum,
)

TARGETS = (FLOOR + 1.0, FLOOR + 0.8)
SETTINGS = {  # of planted_final_losses.hyperbolas
    "4 seeds, 0.2 % noise, lrs 1.41 apart": {},
    "1 seed": {"n_seeds": 1},
    "lrs 2 apart, 0.05 %": {"spacing": 2.0, "n_lrs": 5, "noise": 0.0005},
    "lengths 4 apart": {"lengths": 4.0 ** np.arange(8, 14)},
    "8 seeds, 0.5 % noise": {"n_seeds": 8, "noise": 0.005},
}
LAWS = {("batch_size(examples)", "examples"): BEST_SIZE} | {
    ("lr(batch_size, examples, model_size)", name): power for name, power in LR_POWERS.items()
}


def final_losses(n: int) -> None:
    print("\nfinal losses: coverage of S(B) and B_crit in %, error of B_crit in %")
    for name, setting in SETTINGS.items():
        of_steps, of_critical, errors = [], [], []
        for seed in range(n):
            table = hyperbolas(np.random.default_rng(seed), **setting)
            result = analyse_final_losses(table, targets=TARGETS, n_bootstrap=200, seed=seed)
            reached = result.frontier[result.frontier["outcome"] == REACHED]
            for row in reached.dropna(subset="steps_low").to_dict("records"):
                truth = steps(row["batch_size"], row["target_loss"])
                of_steps.append(row["steps_low"] <= truth <= row["steps_high"])
            for fit in result.fits:
                truth = critical_batch_size(fit.target_loss)
                if fit.critical_batch_size is not None:
                    low, high = fit.ci95["critical_batch_size"]
                    of_critical.append((low or 0.0) <= truth <= (high or np.inf))
                    errors.append(fit.critical_batch_size / truth - 1)
        covered = f"{100 * np.mean(of_steps):8.1f}" if of_steps else "       -"
        print(
            f"{name:38s}{covered}{100 * np.mean(of_critical):8.1f}"
            f"{100 * np.mean(errors):+8.1f} +- {100 * np.std(errors):.1f}",
            flush=True,
        )
    _laws(n)


def _laws(n: int) -> None:
    hits: dict[tuple[str, str], list[bool]] = {key: [] for key in LAWS}
    for seed in range(n):
        laws = laws_of(with_optimum(np.random.default_rng(seed)))
        for (law, x), power in LAWS.items():
            row = laws[(laws["law"] == law) & (laws["x"] == x)].iloc[0]
            hits[law, x].append(row["exponent_low"] <= power <= row["exponent_high"])
    print("coverage of exponents in %")
    for (law, x), of_law in hits.items():
        print(f"{law + ', ' + x:60s}{100 * np.mean(of_law):6.1f}")
