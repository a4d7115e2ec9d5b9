"""Holds the search for the frontier against full grids whose every trial is known.

    python -m tests.benchmarks.frontier_search
    python -m tests.benchmarks.frontier_search trained [batch_size ...]
    python -m tests.benchmarks.frontier_search tuned
    python -m tests.benchmarks.frontier_search colourization [record_dir]

The first searches exact frontiers (tests.benchmarks.exact_search), with and without noise.
The second trains the linear_regression study's problem in numpy at every lr of the lattice (ratio
1.09, its published range and targets, 8 seeds); the third has `python -m sweeps` train the
colourization_small study at every lr of its lattice (ratio 1.19) between 0.005 and 0.08, with two
seeds (210 networks; record_dir: where its journals are or will be). Then the search chooses among
these trials. Prints for each batch size and target: the steps that the search ends
with, those of the grid's best, how far apart they are; then the share of the grid's steps, and the
rounds. Both have the same seeds, tail and cap: the grid's trials stop at cap_factor times the
grid's own fewest steps.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from scaling.config import EvaluationConfig
from scaling.problem import RegressionProblem
from scaling.record.study import TrialRecord, read_record
from sweeps.search.observations import SearchOptions
from sweeps.search.settings import Lattice
from tests.analysis.simulated import sgd_curves
from tests.benchmarks.exact_search import compare_exact, evaluation_steps
from tests.benchmarks.tuned_search import compare_tuned
from tests.sweeps.simulated_cells import SimulatedCell, fewest_of, search

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
TARGETS, TAIL_FACTOR, MAX_STEPS, MAX_EXAMPLES = (0.1, 0.03, 0.01), 3.0, 24000, 500000
BASE, RATIO, LR_RANGE, N_SEEDS = 0.1, 1.09, (0.005, 1.32), 8
DIVERGENCE_FACTOR = 1000.0
PROBLEM = RegressionProblem.power_law(64)


COLOURS_STUDY = Path(__file__).parents[2] / "conf/study/colourization_small.yaml"
COLOURS = Lattice(0.02, 1.19)
COLOURS_RANGE, COLOURS_STRIDE, COLOURS_MAX_STEPS = (0.005, 0.08), 4, 1500
COLOURS_EVALUATION = EvaluationConfig(every_step_until=6, ratio=1.2)


def lattice() -> range:
    """Indices of the lrs in LR_RANGE."""
    return Lattice(BASE, RATIO).within(*LR_RANGE)


def train_everything(batch_size: int) -> SimulatedCell:
    """The cell of a batch size, with all its trials."""
    steps = evaluation_steps(min(MAX_STEPS, MAX_EXAMPLES // batch_size))
    lrs = BASE * RATIO ** np.array(lattice(), float)
    by_seed = [sgd_curves(PROBLEM, batch_size, lrs, steps, seed) for seed in range(N_SEEDS)]
    return cell_of(steps, np.stack(by_seed))


def cell_of(steps: np.ndarray, loss: np.ndarray) -> SimulatedCell:
    """loss [n_seeds, n_lrs, T], NaN from divergence on."""
    initial = PROBLEM.initial_risk
    loss = np.where(loss <= DIVERGENCE_FACTOR * initial, loss, np.nan)
    curves = {
        (index, seed): loss[seed, position]
        for seed in range(len(loss))
        for position, index in enumerate(lattice())
    }
    targets = tuple(target * initial for target in TARGETS)
    return SimulatedCell(steps, curves, targets, TAIL_FACTOR)


def train_colours(record_dir: Path) -> None:
    """Every trial of colourization_small on the lattice; what is on record is not trained again."""
    lrs = ",".join(str(COLOURS.lr(index)) for index in COLOURS.within(*COLOURS_RANGE))
    with tempfile.TemporaryDirectory() as folder:
        whole = COLOURS_STUDY.read_text().replace("  - override /hydra/sweeper: frontier\n", "")
        settings, _, search_settings = whole.partition("\nhydra:\n")
        [sizes] = re.findall(r"batch_size: (\S+)", search_settings)
        path = Path(folder, "study", "colour_grid.yaml")
        path.parent.mkdir()
        path.write_text(settings)
        command = [sys.executable, "-m", "sweeps", "--config-dir", folder, "-m"]
        command += ["study=colour_grid", "study.name=colour_grid", f"batch_size={sizes}"]
        command += [f"lr={lrs}", "seed=0,1", "picture_ratio=null"]
        command += ["tracking.uri=none", f"record_dir={record_dir}"]
        subprocess.run(command, check=True)


def recorded_cells(record_dir: Path) -> dict[int, SimulatedCell]:
    """The cell of each batch size, with all trials in the journals of a folder."""
    record = read_record(record_dir)
    position = {COLOURS.lr(index): index for index in COLOURS.within(*COLOURS_RANGE)}
    params, journals = {}, sorted(record_dir.glob("*.jsonl"))
    for line in (line for path in journals for line in path.read_text().splitlines()):
        if '"record":"trial"' in line:
            found = json.loads(line)
            params[found["trial_id"]] = found["params"]
    by_size: dict[int, dict[tuple[int, int], TrialRecord]] = {}
    for trial_id, of in params.items():
        trial = (position[of["lr"]], of["seed"])
        by_size.setdefault(of["batch_size"], {})[trial] = record.trials[trial_id]
    targets = tuple(next(iter(params.values()))["targets"])
    return {size: _recorded(by_size[size], targets) for size in sorted(by_size)}


def _recorded(
    trials: dict[tuple[int, int], TrialRecord], targets: tuple[float, ...]
) -> SimulatedCell:
    steps = evaluation_steps(COLOURS_MAX_STEPS, COLOURS_EVALUATION)
    curves = {}
    for trial, known in trials.items():
        loss = np.full(len(steps), known.losses[-1])  # beyond its own end nobody asks
        loss[: len(known.losses)] = known.losses
        if known.diverged_step is not None:
            loss[len(known.losses) :] = np.nan
        curves[trial] = loss
    return SimulatedCell(steps, curves, targets, 2.0)


def compare(cells: dict[int, SimulatedCell], options: SearchOptions) -> None:
    states, rounds = search(list(cells.values()), options)
    trained, whole, worst = 0, 0, 0.0
    print("    B   target: search / grid (apart), why the search ended     share   trials")
    for (batch_size, cell), found in zip(cells.items(), states, strict=True):
        fewest, cost = fewest_of(cell, options)
        parts = []
        for target, state, least in zip(cell.targets, found, fewest, strict=True):
            apart = (state.steps or np.inf) / least - 1 if np.isfinite(least) else np.nan
            worst = max(worst, abs(apart)) if np.isfinite(least) else worst
            parts.append(f"{target:.4g}: {state.steps or np.nan:.1f} / {least:.1f} ({apart:+.1%})")
        print(
            f"{batch_size:5d}   {'; '.join(parts)}; {', '.join(s.reason for s in found)}; "
            f"{cell.trained_steps / cost:.1%}   {len(cell.asked)}"
        )
        trained, whole = trained + cell.trained_steps, whole + cost
    print(f"share of the grid's {whole:,} steps: {trained / whole:.1%}, in {rounds} rounds")
    print(f"furthest from the grid: {worst:.1%}")


def search_options(indices: range, **changes: object) -> SearchOptions:
    given = {"lowest": indices[0], "highest": indices[-1], "start": 0, "seeds": range(N_SEEDS)}
    values = given | changes
    values["seeds"] = tuple(values["seeds"])  # pyright: ignore[reportArgumentType]
    return SearchOptions(**values)  # pyright: ignore[reportArgumentType]


def compare_colours(record_dir: Path) -> None:
    train_colours(record_dir)
    lattice = COLOURS.within(*COLOURS_RANGE)
    options = search_options(lattice, seeds=(0, 1), stride=COLOURS_STRIDE)
    compare(recorded_cells(record_dir), options)


def main() -> None:
    if sys.argv[1:2] == ["colourization"]:
        with tempfile.TemporaryDirectory() as folder:
            compare_colours(Path(sys.argv[2] if sys.argv[2:] else folder).absolute())
        return
    if sys.argv[1:2] == ["tuned"]:
        compare_tuned()
        return
    if sys.argv[1:2] != ["trained"]:
        compare_exact()
        return
    batch_sizes = [int(one) for one in sys.argv[2:]] or BATCH_SIZES
    cells = {}
    for batch_size in batch_sizes:
        print(f"training all {len(lattice()) * N_SEEDS} trials of B = {batch_size}", flush=True)
        cells[batch_size] = train_everything(batch_size)
    compare(cells, search_options(lattice()))


if __name__ == "__main__":
    main()
