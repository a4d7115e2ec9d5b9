"""A sweep that finds its frontier: rounds of trials that frontier_search asks for, each one launch,
read back from the journals. What a killed sweep had on record leads it the same way again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from scaling import schema
from scaling.limits import ConfigError
from scaling.record.checkpoint import drop_checkpoints, read_headers
from scaling.record.plan import describe, finished, plan
from scaling.record.study import RecordReader, StudyRecord
from scaling.result import TrialResult
from scaling.trial import Trial
from sweeps.command_line.messages import one_line_errors
from sweeps.compose.composer import Composer
from sweeps.compose.endings import fail_after_all, refuse_stillborn, say_report
from sweeps.compose.folders import claim_sweep_directory
from sweeps.compose.launch import LaunchJobs, compose_jobs
from sweeps.probe import probe
from sweeps.run.job import Job, Search
from sweeps.run.jobs import prepare_jobs, write_last_word
from sweeps.run.progress import Display, progress_display
from sweeps.run.session import kept_crew
from sweeps.search.cells import Asked, Cell, CellCurves
from sweeps.search.coordinates import Point
from sweeps.search.final_loss_cells import FinalLossCell, FinalLosses
from sweeps.search.observations import Observed
from sweeps.search.settings import ALL, FINAL_LOSS, FrontierSettings, Lattice, Swept
from sweeps.search.tuned_cells import TunedCell, TunedCurves, TunedSettings
from sweeps.search.tuned_keys import SETTING, along_each_key, overrides_at, start_point

log = logging.getLogger(__name__)


@dataclass
class FrontierSweep:
    """All cells of a study, searched together: rounds are the only points of decision."""

    loader: ConfigLoader
    config: DictConfig
    swept: Swept
    settings: FrontierSettings
    lattice: Lattice = field(init=False)
    cells: list[Cell] = field(init=False)
    results: dict[str, TrialResult] = field(default_factory=dict)  # by trial id, as they come

    def __post_init__(self) -> None:
        """ConfigError for what cannot be searched; nothing is written yet."""
        self.settings.check()
        start = start_point(self.swept.tuned, self.config)
        trials = self._trials_at(self.swept.cells, start)
        self.settings.check_trials(trials)
        base = self.settings.lr_base
        self.lattice = Lattice(
            trials[0].config.lr if base is None else base, self.settings.lr_ratio
        )
        self.options = self.settings.search(self.lattice, self.swept.seeds)
        shared = set.intersection(*map(set, self.swept.cells))
        self.cells = [
            self._cell(_name(given, shared), given, trial, start)
            for given, trial in zip(self.swept.cells, trials, strict=True)
        ]
        self.folder = Path(trials[0].config.record_dir).absolute()
        self._check_tuned(self.swept.cells[0], trials[0], start)

    def _trials_at(self, cells: Sequence[Sequence[str]], point: Point) -> list[Trial]:
        """One of each cell."""
        overrides = [[*cell, *overrides_at(self.swept.tuned, point)] for cell in cells]
        return prepare_jobs(compose_jobs(Composer(self.loader, self.config), overrides, 0))

    def _cell(self, name: str, given: list[str], trial: Trial, start: Point) -> Cell:
        floor, budget = trial.irreducible_loss, trial.max_steps
        if self.settings.tune_for == FINAL_LOSS:
            return FinalLossCell(name, given, trial, FinalLosses((), floor, budget))
        targets = trial.targets if self.settings.tune_for == ALL else trial.targets[-1:]
        if not self.swept.tuned:
            return Cell(name, given, trial, CellCurves(targets, floor, budget))
        settings = TunedSettings(self.swept.tuned, self.options.lowest, self.options.highest)
        curves = TunedCurves(targets, floor, budget, settings=settings, start=start)
        return TunedCell(name, given, trial, curves)

    def _check_tuned(self, cell: Sequence[str], trial: Trial, start: Point) -> None:
        """ConfigError for a value that no trial can have, or that changes what it must reach."""
        for key, point in along_each_key(self.swept.tuned, start):
            [other] = self._trials_at([cell], point)
            if (other.targets, other.max_steps) != (trial.targets, trial.max_steps):
                allowed = "cannot be tuned: with its values, trials have other targets or budgets"
                raise ConfigError(SETTING, f"[{key.key}]", allowed)

    def run(self, launch: LaunchJobs) -> list[Sequence[JobReturn]]:
        """Rounds until every cell is done, or a trial fails."""
        with kept_crew():
            returned = self._rounds(launch)
        if not _failed(returned):
            refuse_stillborn(list(self.results.values()), len(self.results))
            self._say_end()
        return returned

    def _rounds(self, launch: LaunchJobs) -> list[Sequence[JobReturn]]:
        returned: list[Sequence[JobReturn]] = []
        number = n_jobs = 0
        last: tuple[list[Job], list[Trial]] | None = None
        trial_ids: set[str] = set()
        with RecordReader(self.folder) as journals, progress_display() as display:
            while asked := self._ask():
                number += 1
                last = jobs, trials = self._prepare(asked, number, n_jobs)
                trial_ids.update(trial.trial_id for trial in trials)
                results = self._results(trials, journals.read())
                if None in results:
                    if not returned and number > 1:
                        log.info("rounds 1 to %d are on record", number - 1)
                    self._say_round(number, asked, display)
                    returned.append(launch(jobs, trials, n_jobs, journals))
                    n_jobs += len(jobs)
                    if _failed(returned):
                        return returned
                    results = self._results(trials, journals.read())
                self._take(asked, trials, results, journals.read())
            if display is not None:
                self._show("done", display)
            if not returned and last is not None:  # a killed sweep may have written less to MLflow
                log.info("all %d rounds are on record, nothing to train", number)
                returned.append(launch(*last, 0, journals))
            self._write_end(number)
            drop_checkpoints(self.folder / "checkpoints", trial_ids)
        return returned

    def dry_run(self) -> list[str]:
        """What the next round would do; what comes after depends on it."""
        number = 0
        with RecordReader(self.folder) as reader:
            record = reader.read()
            while asked := self._ask():
                number += 1
                _, trials = self._prepare(asked, number, 0)
                results = self._results(trials, record)
                if None in results:
                    saved = read_headers(self.folder / "checkpoints", move=False)[0]
                    lines = describe(plan(trials, record, saved), trials, record)
                    return [f"round {number}; later rounds depend on it", *lines]
                self._take(asked, trials, results, record)
        return [f"all {number} rounds are on record, nothing to train"]

    def _ask(self) -> list[Asked]:
        """The trials of the next round, of all cells."""
        asked = []
        for cell in self.cells:
            before = cell.done
            for (index, seed), cap in cell.decide(self.options).items():
                cap = cell.up_to_evaluation(cap)
                asked.append(cell.asked(self.lattice, index, seed, cap))
            if cell.done and not before:
                for line in cell.describe(self.lattice):
                    log.info("%s", line)
        return asked

    @cached_property
    def _composer(self) -> Composer:
        """Of all rounds; made when the sweep's directory has its name."""
        return Composer(self.loader, self.config)

    def _prepare(
        self, asked: Sequence[Asked], number: int, first_job: int
    ) -> tuple[list[Job], list[Trial]]:
        overrides = [one.overrides for one in asked]
        composed = compose_jobs(self._composer, overrides, first_job)
        tuned = " ".join(key.key for key in self.swept.tuned)
        jobs = [
            replace(job, search=Search(number, one.setting, one.cap, tuned))
            for one, job in zip(asked, composed, strict=True)
        ]
        return jobs, prepare_jobs(jobs)

    def _results(self, trials: Sequence[Trial], record: StudyRecord) -> list[TrialResult | None]:
        """What is on record of these trials, up to their caps."""
        known = [(trial, record.trials.get(trial.trial_id)) for trial in trials]
        return [None if one is None else finished(trial, one) for trial, one in known]

    def _take(
        self,
        asked: Sequence[Asked],
        trials: Sequence[Trial],
        results: Sequence[TrialResult | None],
        record: StudyRecord,
    ) -> None:
        for one, trial, result in zip(asked, trials, results, strict=True):
            if result is None:
                raise RuntimeError(f"no journal has the trial {' '.join(one.overrides)}")
            self.results[trial.trial_id] = result
            diverged = result.diverged_step is not None
            observed = Observed(
                last_step=result.last_step,
                ended=diverged or result.last_step < one.cap or one.cap >= one.cell.curves.budget,
                diverged=result.outcome == schema.DIVERGED,
            )
            curve = record.trials[trial.trial_id].curve_to(result.last_step)
            one.cell.curves.take(one.index, one.seed, observed, curve)

    def _say_round(self, number: int, asked: Sequence[Asked], display: Display | None) -> None:
        """What is asked for, and the frontier as it forms: a table on a terminal, else a line."""
        done = sum(cell.done for cell in self.cells)
        log.info(
            "round %d: %d trials in %d cells; %d of %d cells are done",
            *(number, len(asked), len({id(one.cell) for one in asked}), done, len(self.cells)),
        )
        if display is not None:
            self._show(f"round {number}", display)
        elif number > 1:
            so_far = "; ".join(cell.so_far(self.lattice) for cell in self.cells)
            log.info("so far, at %s: %s", self.cells[0].goal, so_far)

    def _show(self, what: str, display: Display) -> None:
        rows = [cell.as_row(self.lattice) for cell in self.cells]
        display.show_table([f"{what}, {self.cells[0].goal}", *self.cells[0].heads], rows)

    def _write_end(self, rounds: int) -> None:
        """The frontier and what it took, on the sweep's own run."""
        whole = [cell for cell in self.cells if cell.is_tuned]
        frontier = {
            "format": 1,
            "lr_base": self.lattice.base,
            "lr_ratio": self.lattice.ratio,
            "rounds": rounds,
            "cells": [cell.as_json(self.lattice) for cell in self.cells],
        }
        tags = {schema.SEARCH_ROUNDS: str(rounds), schema.TUNED_CELLS: str(len(whole))}
        files = {schema.FRONTIER_FILE: json.dumps(frontier, indent=1)}
        directory = Path(str(self.config.hydra.sweep.dir))
        write_last_word(self.cells[0].trial.config, directory, tags, files)

    def _say_end(self) -> None:
        trials = [trial for cell in self.cells for trial in cell.curves.trials.values()]
        steps = sum(one.last_step for one in trials)
        log.info("%d cells are done: %d trials, %d steps", len(self.cells), len(trials), steps)
        say_report(self.cells[0].trial.config.study.name)


def _failed(returned: Sequence[Sequence[JobReturn]]) -> bool:
    return any(job.status == JobStatus.FAILED for batch in returned for job in batch)


def _name(overrides: Sequence[str], shared: set[str]) -> str:
    return " ".join(one for one in overrides if one not in shared) or "the only cell"


def sweep_frontier(
    loader: ConfigLoader,
    config: DictConfig,
    swept: Callable[[], Swept],
    settings: dict[str, Any],
    launch: LaunchJobs,
) -> list[Sequence[JobReturn]]:
    """The body of the `frontier` sweeper."""
    with one_line_errors():
        if config.sweep.probe:
            probe(loader, config, swept().cells)
            return []
        sweep = FrontierSweep(loader, config, swept(), FrontierSettings(**settings))
        if config.sweep.dry_run:
            print("\n".join(sweep.dry_run()))
            return []
    claim_sweep_directory(config)
    with one_line_errors():
        returned = sweep.run(launch)
    fail_after_all(returned)
    return returned
