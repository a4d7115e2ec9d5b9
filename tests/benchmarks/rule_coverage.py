"""Which rule of lr against batch size is called, by simulation: true rule against verdict.

Best lrs as the search leaves them: on a lattice of ratio 1.09, each off by up to half a spacing
(`half`) or by a whole one as often as not (`whole`), batch sizes a factor 2 apart from 8 on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.lr_rules import FEWEST_FOR_VERDICT, lr_rule_frame

Floats = NDArray[np.float64]

RATIO, FIRST = 1.09, 8.0
NOT_DECIDED = "not decided"
# lr at batch sizes; B_* and B_peak in the middle of those that are sampled
TRUE: dict[str, Callable[[Floats], Floats]] = {
    "constant": np.ones_like,
    "linear": lambda size: size,
    "square_root": np.sqrt,
    "power": lambda size: size**0.25,
    "saturating": lambda size: 1 / (1 + np.sqrt(size[0] * size[-1]) / size),
    "surge": lambda size: 1 / (np.sqrt(size / _middle(size)) + np.sqrt(_middle(size) / size)),
}
CALLED = (*TRUE, NOT_DECIDED)
N_SIZES = (5, 6, 7, 9, 12)


def _middle(size: Floats) -> float:
    return float(np.sqrt(size[0] * size[-1]))


def frontier(rule: str, n_sizes: int, rng: np.random.Generator, error: float) -> pd.DataFrame:
    """Best lrs of one simulated study; error: 0.5 or 1 spacings."""
    sizes, spacing = FIRST * 2.0 ** np.arange(float(n_sizes)), float(np.log(RATIO))
    log_lr = np.log(0.1 * TRUE[rule](sizes)) + rng.uniform(0, spacing)  # anywhere on the lattice
    off = rng.uniform(-error, error, n_sizes) * spacing
    on_lattice = spacing * np.round((log_lr + off) / spacing)
    return pd.DataFrame(
        {
            "batch_size": sizes,
            "lr": np.exp(on_lattice),
            "lr_low": np.exp(on_lattice - spacing / 2),
            "lr_high": np.exp(on_lattice + spacing / 2),
        }
    )


def called(rule: str, n: int, n_sizes: int, optimizer: str, error: float) -> Counter[str]:
    """How often each verdict falls in n studies of one true rule."""
    rng = np.random.default_rng([n_sizes, list(TRUE).index(rule)])
    found: Counter[str] = Counter()
    for _ in range(n):
        rules = lr_rule_frame(frontier(rule, n_sizes, rng, error), {}, 0.1, optimizer)
        preferred = rules.loc[rules["preferred"], "rule"]
        found[NOT_DECIDED if preferred.empty else str(preferred.iloc[0])] += 1
    return found


def rules(n: int) -> None:
    """Prints the table: a row a true rule, a column a verdict, in percent of n studies."""
    print(f"verdict in % of {n} studies; {FEWEST_FOR_VERDICT} batch sizes or more are decided")
    for optimizer in ("sgd", "adam"):
        for name, error in (("half", 0.5), ("whole", 1.0)):
            for n_sizes in N_SIZES:
                print(f"\n{optimizer}, {n_sizes} batch sizes, lrs off by up to {name} a spacing")
                print(f"{'true':<14}" + "".join(f"{verdict:>13}" for verdict in CALLED))
                for rule in TRUE if optimizer == "adam" else list(TRUE)[:-1]:
                    found = called(rule, n, n_sizes, optimizer, error)
                    shares = "".join(f"{100 * found[verdict] / n:13.1f}" for verdict in CALLED)
                    print(f"{rule:<14}{shares}", flush=True)
