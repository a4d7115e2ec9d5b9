"""The whole chain against the exact answer: search, analysis and every interval that is printed.

    python -m tests.benchmarks.coverage chain [N] [seeds ...]

N simulations (40) of the default study for each number of seeds (3 5 8): regression_search trains
what the real search asks for, analysis.analyse reads it, and one table says of each target and each
number printed with an interval how often the 95 % interval holds the exact value, the median bias
and the median width (both in %). Exact are

    S(B), lr(B)             the least expected steps over every lr, and that lr
    S_min, E_min, B_crit    the hyperbola fitted to exact S(B) at the fit's batch sizes
    overhead, half          20 % overhead and half elasticity read off exact S(B), 8 sizes an octave
    steps, examples, lr     of a recommendation: exact S(B), lr(B) at its batch size

Simulated studies are kept in a temporary folder until the simulation's code changes, so that other
statistics are tried in minutes. Two processes.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import scaling.curves
import sweeps.search.cells
import sweeps.search.decide
from analysis import StudyResult, analyse
from analysis.fit.fit_result import FitResult
from analysis.fit.fitting import fit_hyperbola
from analysis.theory.exact_frontier import CurveReading, continuous_lr_frontier
from tests.benchmarks import frontier_search, regression_search
from tests.benchmarks.frontier_search import (
    BATCH_SIZES,
    MAX_STEPS,
    PROBLEM,
    TAIL_FACTOR,
    evaluation_steps,
)

Floats = NDArray[np.float64]

N_STUDIES, SEED_COUNTS, N_BOOTSTRAP = 40, (3, 5, 8), 500
_AT_ONCE = 5  # studies simulated together
_PER_OCTAVE = 8
_RECOMMENDED = ("steps", "examples", "lr")
_FITTED = {"S_min": "min_steps", "E_min": "min_examples", "B_crit": "critical_batch_size"}


@dataclass(frozen=True)
class Exact:
    """Exact S(B) and lr(B) of one target: log sizes, log steps and log lrs [n]."""

    log_size: Floats
    log_steps: Floats
    log_lr: Floats

    def steps(self, size: float) -> float:
        return float(np.exp(np.interp(np.log(size), self.log_size, self.log_steps)))

    def lr(self, size: float) -> float:
        return float(np.exp(np.interp(np.log(size), self.log_size, self.log_lr)))

    def fitted(self, sizes: Sequence[int]) -> dict[str, float]:
        log_min_steps, log_min_examples = fit_hyperbola(sizes, [self.steps(b) for b in sizes])
        logs = (log_min_steps, log_min_examples, log_min_examples - log_min_steps)
        return {name: float(np.exp(value)) for name, value in zip(_FITTED, logs, strict=True)}

    def overhead(self, overhead: float, reference: float) -> float:
        """Where B S(B) is 1 + overhead times that of the reference."""
        examples = self.log_size + self.log_steps
        goal = np.log((1 + overhead) * reference * self.steps(reference))
        return float(np.exp(np.interp(goal, examples, self.log_size)))

    def half_elasticity(self) -> float:
        """Where -dlogS/dlogB is 1/2, over an octave around it."""
        fall = self.log_steps[:-_PER_OCTAVE] - self.log_steps[_PER_OCTAVE:]
        middle = (self.log_size[:-_PER_OCTAVE] + self.log_size[_PER_OCTAVE:]) / 2
        return float(np.exp(np.interp(-0.5, -fall / np.log(2), middle)))


@cache
def exact_answers() -> dict[float, Exact]:
    """Of each target, read as the trials are: at their evaluations and with their tail."""
    n_octaves = int(np.log2(BATCH_SIZES[-1]))
    sizes = 2.0 ** np.linspace(0, n_octaves, n_octaves * _PER_OCTAVE + 1)
    read_as = CurveReading(evaluation_steps(MAX_STEPS), TAIL_FACTOR)
    frontier = continuous_lr_frontier(
        PROBLEM, sizes.tolist(), regression_search.LOSSES, MAX_STEPS, read_as=read_as
    )
    return {
        target: Exact(*np.log(own[["batch_size", "steps", "lr"]].to_numpy(float).T))
        for target, own in frontier.groupby("target_loss")
    }  # pyright: ignore[reportReturnType]


def held_against_exact(result: StudyResult) -> Iterator[dict[str, Any]]:
    """target_loss, quantity, value, low, high, exact: a row for every number with an interval."""
    for fit in result.fits:
        exact = exact_answers()[fit.target_loss]
        frontier = result.frontier[result.frontier["target_loss"] == fit.target_loss]
        advice = result.frames["recommendations"]
        advice = advice[advice["target_loss"] == fit.target_loss]
        for row in _of_frontier(frontier, exact), _of_fit(fit, exact), _of_advice(advice, exact):
            yield from ({"target_loss": fit.target_loss} | one for one in row)
    yield from _of_laws(result)


def _of_frontier(frontier: pd.DataFrame, exact: Exact) -> Iterator[dict[str, Any]]:
    for point in frontier.to_dict("records"):
        size = int(point["batch_size"])
        for label, name, truth in (("S", "steps", exact.steps), ("lr", "lr", exact.lr)):
            yield _row(f"{label}({size})", point, name, truth(size))


def _of_fit(fit: FitResult, exact: Exact) -> Iterator[dict[str, Any]]:
    overhead = fit.critical_batch_size_overhead
    truths = exact.fitted(fit.batch_sizes) if len(fit.batch_sizes) > 2 else {}
    found = {name: (getattr(fit, key), key) for name, key in _FITTED.items() if name in truths}
    if overhead.get("value") is not None:
        share, reference = overhead.get("overhead"), overhead.get("reference_batch_size")
        truths["20 % overhead"] = exact.overhead(share or 0.2, reference or 1.0)
        found["20 % overhead"] = overhead["value"], "critical_batch_size_overhead"
    truths["half elasticity"] = exact.half_elasticity()
    half = "critical_batch_size_half_elasticity"
    found["half elasticity"] = getattr(fit, half), half
    for name, (value, key) in found.items():
        low, high = fit.ci95.get(key, (None, None))
        point = {"value": value, "value_low": low, "value_high": high}
        yield _row(name, point, "value", truths[name])


def _of_advice(advice: pd.DataFrame, exact: Exact) -> Iterator[dict[str, Any]]:
    for point in advice.to_dict("records"):
        size = point["batch_size"]
        truths = {"steps": exact.steps(size), "examples": size * exact.steps(size)}
        for name in _RECOMMENDED:
            truth = truths.get(name, exact.lr(size))
            yield _row(f"{point['name']} {name}", point, name, truth)


def _of_laws(result: StudyResult) -> Iterator[dict[str, Any]]:
    """The exponent of E_min/S_min in the target loss; it stands at the hardest target."""
    laws = result.frames["laws"]
    of_critical = (laws["y"] == "critical_batch_size") & (laws["x"] == "target_loss")
    of_ratio = (
        of_critical & (laws["form"] == "power") & (laws["definition"] == "min_examples/min_steps")
    )
    fits = [fit for fit in result.fits if fit.identified]
    exact = [exact_answers()[fit.target_loss].fitted(fit.batch_sizes)["B_crit"] for fit in fits]
    if len(fits) < 3:
        return
    exponent = np.polyfit(np.log([fit.target_loss for fit in fits]), np.log(exact), 1)[0]
    for law in laws[of_ratio].to_dict("records"):
        row = _row("exponent of B_crit(L)", law, "exponent", float(exponent))
        yield {"target_loss": min(fit.target_loss for fit in result.fits)} | row


def _row(quantity: str, point: dict[Any, Any], name: str, exact: float) -> dict[str, Any]:
    low, value, high = (
        np.nan if point[key] is None else float(point[key])
        for key in (f"{name}_low", name, f"{name}_high")
    )
    return {"quantity": quantity, "value": value, "low": low, "high": high, "exact": exact}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Coverage, median bias and median width of the intervals, all in %, of each quantity; an open
    end (NaN) holds everything on its side. known: % of the studies that have a value."""
    low, high = rows["low"].fillna(-np.inf), rows["high"].fillna(np.inf)
    has = rows["value"].notna()
    measured = pd.DataFrame(
        {
            "covered": 100.0 * ((low <= rows["exact"]) & (rows["exact"] <= high)).where(has),
            "bias": 100 * (rows["value"] / rows["exact"] - 1),
            "width": 100 * (high - low) / rows["exact"],
            "exact": rows["exact"],
            "known": 100.0 * has,
        }
    )
    keys = [rows["target_loss"], rows["quantity"], rows["seeds"]]
    how = {"exact": "median", "known": "mean", "covered": "mean", "bias": "median"}
    return measured.groupby(keys, sort=False).agg(how | {"width": "median"})


def print_table(rows: pd.DataFrame) -> None:
    everywhere = rows[rows["quantity"].str.match(r"(S|lr)\(")]
    label = everywhere["quantity"].str.split("(").str[0] + "(B), all B"
    table = summary(pd.concat([rows, everywhere.assign(quantity=label)], ignore_index=True))
    counts = sorted(rows["seeds"].unique())
    print(
        "covered by the 95 % interval (%), median bias (%), median width (%); of the studies that"
    )
    print("know the value, if fewer than all: (their share in %)")
    print(f"{'':24}{'exact':>9}" + "".join(f"{f'{count} seeds':>27}" for count in counts))
    for target, of_target in table.groupby(level=0, sort=False):
        print(f"target {target:.4g} ({100 * float(str(target)) / PROBLEM.initial_risk:.3g} %)")
        for quantity, own in of_target.groupby(level=1, sort=False):
            cells = own.droplevel([0, 1]).reindex(counts)
            exact = cells["exact"].median()
            text = "".join(_cell(row) for row in cells.to_dict("records"))
            print(f"  {quantity:<22}{exact:>9.4g}{text}")


def _cell(row: dict[Any, Any]) -> str:
    share = "" if row["known"] > 99.9 else f"({row['known']:.0f})"
    return f"{row['covered']:7.0f}{row['bias']:+7.1f}{row['width']:7.1f}{share:>6}"


@cache
def folder() -> Path:
    """Of the simulated studies; another one when the code that makes them changes."""
    modules = (
        regression_search, frontier_search, sweeps.search.decide, sweeps.search.cells,
        scaling.curves,
    )  # fmt: skip
    content = b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
    name = f"batch-scaling-chain-{hashlib.sha256(content).hexdigest()[:12]}"
    path = Path(tempfile.gettempdir()) / name
    path.mkdir(exist_ok=True)
    return path


def simulate(numbers: Sequence[int], seed_counts: Sequence[int]) -> int:
    """Simulates and keeps these studies; how many."""
    found = regression_search.search_studies(numbers, seed_counts)
    for (number, n_seeds), evaluations in found.items():
        path = folder() / f"{number}-{n_seeds}.parquet"
        evaluations.to_parquet(path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return len(found)


def held_study(number: int, n_seeds: int) -> list[dict[str, Any]]:
    evaluations = pd.read_parquet(folder() / f"{number}-{n_seeds}.parquet")
    trials, curves = regression_search.frames_of(evaluations)
    result = analyse(trials, curves, n_bootstrap=N_BOOTSTRAP, seed=number, with_theory=False)
    return [row | {"study": number, "seeds": n_seeds} for row in held_against_exact(result)]


def in_two_processes(what: str, work: Callable[..., Any], jobs: Sequence[tuple]) -> Iterable[Any]:
    """Results as they come, with a line on the time left."""
    start, context = time.perf_counter(), multiprocessing.get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes started here
    with ProcessPoolExecutor(2, context) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        for done, future in enumerate(as_completed(futures), 1):
            yield future.result()
            spent = time.perf_counter() - start
            left = spent / done * (len(jobs) - done)
            note = f"{what}: {done} of {len(jobs)}, {spent:.0f} s, about {left:.0f} s left"
            print(note, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> None:
    n_studies, *given = [int(one) for one in arguments] or [N_STUDIES]
    seed_counts = tuple(given) or SEED_COUNTS
    missing = [
        number
        for number in range(n_studies)
        if not all((folder() / f"{number}-{n}.parquet").exists() for n in seed_counts)
    ]
    batches = [missing[i : i + _AT_ONCE] for i in range(0, len(missing), _AT_ONCE)]
    list(in_two_processes("simulated", simulate, [(batch, seed_counts) for batch in batches]))
    jobs = [(number, n) for number in range(n_studies) for n in seed_counts]
    rows = [row for found in in_two_processes("analysed", held_study, jobs) for row in found]
    print_table(pd.DataFrame(rows))
