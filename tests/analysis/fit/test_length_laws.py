"""Power laws of the best batch size and lr."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from analysis.fit.length_laws import BEST, EVERY, fit_powers, predict_law
from tests.analysis.planted_final_losses import BEST_SIZE, LR_POWERS, laws_of, with_optimum


def row_of(laws: pd.DataFrame, law: str, at: str, x: str) -> pd.Series:
    return laws[(laws["law"] == law) & (laws["at"] == at) & (laws["x"] == x)].iloc[0]


def test_planted_powers_are_found() -> None:
    laws = laws_of(with_optimum(np.random.default_rng(0), noise=1e-5))
    size = row_of(laws, "batch_size(examples)", BEST, "examples")
    assert size["exponent"] == pytest.approx(BEST_SIZE, abs=0.002)
    assert size["coefficient"] == pytest.approx(0.12, rel=0.03)
    for name, power in LR_POWERS.items():
        row = row_of(laws, "lr(batch_size, examples, model_size)", EVERY, name)
        assert row["exponent"] == pytest.approx(power, abs=0.005)
    # at the best batch size the powers of D add up
    at_best = row_of(laws, "lr(examples, model_size)", BEST, "examples")
    expected = LR_POWERS["examples"] + LR_POWERS["batch_size"] * BEST_SIZE
    assert at_best["exponent"] == pytest.approx(expected, abs=0.01)
    of_law = laws[(laws["law"] == "batch_size(examples)") & (laws["at"] == BEST)]
    assert predict_law(of_law, {"examples": np.array([1e6])})[0] == pytest.approx(
        0.12 * 1e6**BEST_SIZE, rel=0.01
    )


def test_one_predictor_is_numpys_line() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(1, 100, (12, 1)), rng.uniform(1, 2, 12)
    slope, intercept = np.polyfit(np.log(x[:, 0]), np.log(y), 1)
    value, low, high, _ = fit_powers(x, y)
    assert value == pytest.approx([intercept, slope], rel=1e-9)
    assert (low < value).all()
    assert (value < high).all()


def test_errors_are_those_of_leaving_each_point_out() -> None:
    """HC3 is the jackknife but for a factor near 1 (MacKinnon and White 1985)."""
    rng = np.random.default_rng(5)
    x = rng.uniform(1, 100, (40, 2))
    y = x[:, 0] ** 0.5 * np.exp(0.1 * rng.standard_normal(40))
    _, low, high, _ = fit_powers(x, y)
    left = np.array([fit_powers(np.delete(x, i, 0), np.delete(y, i))[0] for i in range(40)])
    jackknife = np.sqrt(39 / 40 * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    assert (high - low) / 2 / t.ppf(0.975, 37) == pytest.approx(jackknife, rel=0.03)


def test_reasons_for_no_law() -> None:
    table = with_optimum(np.random.default_rng(0))
    one_length = table[table["steps"] * table["batch_size"] < 600_000]
    laws = laws_of(one_length[one_length["model_size"] == 1e8])
    assert laws["reason"].str.contains("needs").all()
    together = []  # each model size with its own length, as compute-optimal tables have it
    for model_size, ratio in ((1e8, 20), (2e8, 20), (4e8, 20), (8e8, 20)):
        rows = table[table["model_size"] == model_size]
        length = model_size * ratio / 2048
        together.append(rows[(rows["steps"] * rows["batch_size"] / length).between(0.9, 1.1)])
    laws = laws_of(pd.concat(together))
    both = laws[laws["law"] == "lr(examples, model_size)"]
    assert both["reason"].str.contains("move together").all()
    assert (laws.loc[laws["law"] == "lr(examples)", "reason"] == "").all()


@pytest.mark.long
def test_planted_powers_lie_in_their_intervals() -> None:
    """Of 60 tables with 0.1 % of noise; all six exponents together."""
    hits = []
    for seed in range(60):
        laws = laws_of(with_optimum(np.random.default_rng(seed)))
        expected = {("batch_size(examples)", BEST, "examples"): BEST_SIZE} | {
            ("lr(batch_size, examples, model_size)", EVERY, name): power
            for name, power in LR_POWERS.items()
        }
        for key, power in expected.items():
            row = row_of(laws, *key)
            hits.append(row["exponent_low"] <= power <= row["exponent_high"])
    assert 0.93 <= np.mean(hits) <= 0.985
