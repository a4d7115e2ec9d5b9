"""Coverage and bias of the intervals, by simulation.

    python -m tests.benchmarks.coverage [planted|outside|curves|stopped|rules|regret] [N]
    python -m tests.benchmarks.coverage [final_losses|time] [N]
    python -m tests.benchmarks.coverage chain [N] [seeds ...]

planted  tables with known S_min and E_min (N simulations a row, 400): noise of 2 to 10 % in log S
         per seed, 6 to 13 batch sizes, 1 to 8 seeds, 30 % of the studies with censored cells.
outside  all batch sizes far below or above B_crit: how often `identified` is false.
curves   planted curves at evaluation ratios of 1.05 to 2, noise of 0.5 to 5 %, 3 to 8 seeds (N
         simulations a row, 40): see tests.benchmarks.evaluations; then regression studies of 8
         seeds, lrs a factor 1.1 apart (N, 80).
stopped  the same planted curves where each run stops at the target.
rules    which rule of lr against batch size is called (N simulations a row, 100): rule_coverage.
regret   of rules of lr against tuning (N simulations a row, 40): regret_coverage.
final_losses
         planted tables of final losses (N a row, 40): see tests.benchmarks.final_loss_coverage.
chain    the whole chain, search included, against the exact answer: see tests.benchmarks.chain.
time     seconds of 1,000 resamples of a study of three targets, by each objective.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd

from analysis import analyse
from analysis.fit.fit_result import FitResult
from analysis.fit.fitting import OBJECTIVES, fit_hyperbola
from analysis.fit.forms import hyperbola
from analysis.fit.step_fits import fit_critical_batch_size, fit_critical_batch_sizes
from scaling.problem import RegressionProblem
from tests.analysis.simulated import simulate_study
from tests.benchmarks import chain
from tests.benchmarks.evaluations import evaluations
from tests.benchmarks.final_loss_coverage import final_losses
from tests.benchmarks.regression_studies import exact_frontier, simulate
from tests.benchmarks.regret_coverage import regret
from tests.benchmarks.rule_coverage import rules

TRUTH = {"min_steps": 40.0, "min_examples": 3360.0, "critical_batch_size": 84.0}
FAR = 1e6  # B_crit of the studies whose batch sizes lie outside
READ = "critical_batch_size_half_elasticity"


def planted_table(
    rng: np.random.Generator, sizes: np.ndarray, n_seeds: int, noise: float, censored: bool
) -> pd.DataFrame:
    """Steps of the planted hyperbola; censored: a budget in steps that ends near one of the two
    smallest batch sizes' true steps, so that some or all seeds there do not reach the target."""
    true = hyperbola(sizes, np.log(TRUTH["min_steps"]), np.log(TRUTH["min_examples"]))
    steps = true * np.exp(noise * rng.standard_normal((n_seeds, len(sizes))))
    cap = true[rng.integers(2)] * np.exp(noise * rng.standard_normal()) if censored else np.inf
    return pd.DataFrame(
        {
            "batch_size": np.tile(sizes, n_seeds),
            "seed": np.repeat(np.arange(n_seeds), len(sizes)),
            "steps": np.minimum(steps, cap).ravel(),
            "outcome": np.where(steps > cap, "censored", "reached").ravel(),
        }
    )


def covered(fit: FitResult, name: str, true: float) -> bool:
    """Whether the interval holds the true value; an end that is None is open."""
    low, high = fit.ci95.get(name, (None, None))
    return (low is None or low <= true) and (high is None or true <= high)


def simulate_planted(
    n: int,
    rng: np.random.Generator,
    *,
    seeds: tuple[int, int],
    n_sizes: tuple[int, int] = (6, 13),
    censored: float = 0.3,
    objective: str = "likelihood",
    n_bootstrap: int = 500,
) -> pd.DataFrame:
    """A row a study: log error and coverage of each parameter, identified, B_crit's log width."""
    rows = []
    for i in range(n):
        below, above = np.exp(rng.uniform(np.log(8), np.log(64), 2))
        count = rng.integers(n_sizes[0], n_sizes[1] + 1)
        sizes = np.unique(np.geomspace(84 / below, 84 * above, count).round())
        table = planted_table(
            rng, sizes, int(rng.integers(seeds[0], seeds[1] + 1)), rng.uniform(0.02, 0.1),
            rng.random() < censored,
        )  # fmt: skip
        fit = fit_critical_batch_size(table, objective=objective, n_bootstrap=n_bootstrap, seed=i)
        row: dict[str, object] = {"identified": fit.identified, "censored": fit.n_censored > 0}
        for name, true in TRUTH.items():
            value = getattr(fit, name)
            row[f"{name}_error"] = np.nan if value is None else np.log(value / true)
            row[f"{name}_covered"] = covered(fit, name, true)
        row["half_covered"] = covered(fit, READ, TRUTH["critical_batch_size"])
        rows.append(row)
    return pd.DataFrame(rows)


def describe(label: str, found: pd.DataFrame) -> str:
    share = [100 * found[f"{name}_covered"].mean() for name in TRUTH]
    bias = [100 * found[f"{name}_error"].median() for name in TRUTH]
    return (
        f"{label:<42}{share[0]:7.1f}{share[1]:7.1f}{share[2]:7.1f}"
        f"{bias[0]:+9.1f}{bias[1]:+6.1f}{bias[2]:+6.1f}"
        f"{100 * found['half_covered'].mean():9.1f}{100 * found['identified'].mean():9.1f}"
    )


def planted(n: int) -> None:
    print(
        "covered by 95 % intervals (%)                S_min  E_min B_crit   median bias (%)", end=""
    )
    print("      half  identified")
    for objective in OBJECTIVES:
        for seeds, sizes in (
            ((1, 1), (7, 13)), ((2, 2), (7, 13)), ((3, 3), (6, 6)), ((3, 4), (6, 13)),
            ((5, 8), (6, 13)),
        ):  # fmt: skip
            rng = np.random.default_rng(0)
            found = simulate_planted(n, rng, seeds=seeds, n_sizes=sizes, objective=objective)
            name = f"{objective}, seeds {seeds[0]}-{seeds[1]}, sizes {sizes[0]}-{sizes[1]}"
            print(describe(name, found))
            some = found[found["censored"]]
            print(describe(f"  of these with censored cells ({len(some)})", some), flush=True)


def simulate_outside(n: int, rng: np.random.Generator, low: float, high: float) -> list[FitResult]:
    """Fits of tables whose batch sizes all lie between low and high times B_crit."""
    fits = []
    for i in range(n):
        sizes = np.geomspace(low * FAR, high * FAR, rng.integers(6, 14)).round()
        steps = hyperbola(sizes, np.log(40.0), np.log(40.0 * FAR))
        n_seeds, noise = int(rng.integers(1, 9)), rng.uniform(0.02, 0.1)
        drawn = steps * np.exp(noise * rng.standard_normal((n_seeds, len(sizes))))
        table = pd.DataFrame(
            {
                "batch_size": np.tile(sizes, n_seeds),
                "seed": np.repeat(np.arange(n_seeds), len(sizes)),
                "steps": drawn.ravel(),
            }
        )
        fits.append(fit_critical_batch_size(table, n_bootstrap=300, seed=i))
    return fits


def outside(n: int) -> None:
    for low, high in ((1e-4, 1e-2), (1e-3, 0.05), (20, 1000), (100, 10_000)):
        fits = simulate_outside(n, np.random.default_rng(0), low, high)
        wrong = np.mean([fit.identified for fit in fits])
        held = np.mean([covered(fit, "critical_batch_size", FAR) for fit in fits])
        print(
            f"B from {low:g} to {high:g} B_crit: not identified {100 * (1 - wrong):.1f} %, "
            f"bound holds {100 * held:.1f} %",
            flush=True,
        )


def curves(n: int) -> None:
    for line in evaluations(n // 2):
        print(line, flush=True)
    regression(n)


def stopped(n: int) -> None:
    for line in evaluations(n, stop=True):
        print(line, flush=True)


def regression(n: int) -> None:
    """Prints bias and coverage against the fit of the exact frontier over every lr."""
    problem = RegressionProblem.power_law(64)
    exact = exact_frontier(problem)
    targets = sorted(exact["target_loss"].unique(), reverse=True)
    true = {}
    for target in targets:
        own = exact[exact["target_loss"] == target]
        log_min_steps, log_min_examples = fit_hyperbola(own["batch_size"], own["steps"])
        true[target] = float(np.exp(log_min_examples - log_min_steps))
    errors = {(target, name): [] for target in targets for name in OBJECTIVES}
    held = {key: [] for key in errors}
    for i in range(n):
        frames = simulate(problem, exact, 8, np.random.default_rng([7, i]))
        for name in OBJECTIVES:
            result = analyse(*frames, n_bootstrap=400, with_theory=False, fit_objective=name)
            for fit in result.fits:
                at = fit.target_loss, name
                errors[at].append(np.log((fit.critical_batch_size or np.nan) / true[at[0]]))
                held[at].append(covered(fit, "critical_batch_size", true[at[0]]))
        if (i + 1) % 20 == 0 or i + 1 == n:
            for at, own in errors.items():
                print(
                    f"{i + 1} studies, target {at[0]:.3g}, B_crit {true[at[0]]:.1f}, {at[1]}: "
                    f"bias {100 * np.nanmean(own):+.1f} % (sd {100 * np.nanstd(own):.1f}), "
                    f"covered {100 * np.mean(held[at]):.1f} %",
                    flush=True,
                )


def timing(_: int) -> None:
    rng, sizes = np.random.default_rng(0), 2.0 ** np.arange(13)
    parts = [
        planted_table(rng, sizes, 8, 0.05, True).assign(target_loss=loss)
        for loss in (0.3, 0.1, 0.03)
    ]
    table = pd.concat(parts, ignore_index=True)
    for objective in OBJECTIVES:
        start = time.perf_counter()
        fit_critical_batch_sizes(table, objective=objective, n_bootstrap=1000)
        seconds = time.perf_counter() - start
        print(f"1,000 resamples of a table, three targets, {objective}: {seconds:.2f} s")
    problem = RegressionProblem.power_law(64)
    targets = [share * problem.initial_risk for share in (0.1, 0.03, 0.01)]
    lrs, sizes = np.geomspace(0.005, 1.3, 16), [2**k for k in range(13)]
    frames = simulate_study(problem, sizes, lrs, range(8), targets, max_steps=15_000, noise=0.05)
    for objective in OBJECTIVES:
        start = time.perf_counter()
        analyse(*frames, n_bootstrap=1000, with_theory=False, fit_objective=objective)
        seconds = time.perf_counter() - start
        print(f"the same of {len(frames[0]):,} curves, whole chain, {objective}: {seconds:.1f} s")


def main() -> None:
    if sys.argv[1:2] == ["chain"]:
        chain.main(sys.argv[2:])
        return
    names = {"planted": 400, "outside": 200, "curves": 80, "stopped": 40, "rules": 100}
    names |= {"regret": 40, "final_losses": 40, "time": 1}
    parts = {"planted": planted, "outside": outside, "curves": curves, "rules": rules}
    parts |= {"stopped": stopped, "regret": regret, "final_losses": final_losses, "time": timing}
    chosen = sys.argv[1:2] or list(names)
    for name in chosen:
        n = int(sys.argv[2]) if len(sys.argv) > 2 else names[name]
        parts[name](n)


if __name__ == "__main__":
    main()
