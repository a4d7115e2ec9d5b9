"""One small study, simulated and analysed once for all tests of the analysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from scaling.problem import RegressionProblem
from tests.analysis.read.stored import FOREIGN, new_store, write_foreign, write_study
from tests.analysis.simulated import simulate_study

Frames = tuple[pd.DataFrame, pd.DataFrame]
STUDY_NAME = "small"


@pytest.fixture(scope="session")
def small_study() -> Frames:
    problem = RegressionProblem.power_law(16)
    targets = [share * problem.initial_risk for share in (0.02, 0.01)]
    lrs = 2.0 ** np.arange(-8.0, 0.5)
    sizes = [1, 4, 16, 64, 256, 1024]
    return simulate_study(problem, sizes, lrs, [0, 1], targets, max_steps=4500, noise=0.05)


@pytest.fixture(scope="session")
def small_result(small_study: Frames) -> StudyResult:
    return analyse(*small_study, n_bootstrap=50)


@pytest.fixture(scope="session")
def small_store(
    small_study: Frames, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """URI of a store with the study; tests that change it make a copy."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    write_study(new_store(folder), STUDY_NAME, *small_study)
    return new_store(folder)


@pytest.fixture(scope="session")
def stores_of_examples(
    small_study: Frames, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """URI of a store with a small study and an experiment of another project, for docstrings."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    trials, curves = small_study
    write_study(new_store(folder), STUDY_NAME, trials.head(4), curves)
    write_foreign(new_store(folder), "theirs", FOREIGN)
    return new_store(folder)
