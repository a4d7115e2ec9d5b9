"""`report source=mlperf`: the example of the README, from end to end."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.options import shipped_table
from tests.sweeps.in_process import command

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parents[3] / "shared/data/mlperf/reference_points.csv"
TABLE = Path(shipped_table("mlperf.csv"))
ROWS = {
    "bert": 263, "flux1": 80, "gpt_oss_20b": 60, "llama2_70b_lora": 80, "llama31_405b": 36,
    "llama31_8b": 100, "resnet": 130, "retinanet": 148, "stable_diffusion": 86,
}  # fmt: skip


def test_the_table_is_complete_and_unchanged() -> None:
    table = pd.read_csv(TABLE)
    assert table.groupby("benchmark").size().to_dict() == ROWS
    assert not table.duplicated(["benchmark", "batch_size", "seed"]).any()
    assert (table.groupby(["benchmark", "batch_size"])["lr"].nunique() == 1).all()
    sha256 = "576ceb553dbd4627e607aa0ec162fd75ce85aebfe96e6fba96cff899c15dc6ee"
    assert hashlib.sha256(TABLE.read_bytes()).hexdigest() == sha256


def test_the_text_beside_it_says_what_is_in_it() -> None:
    table = pd.read_csv(TABLE)
    text = TABLE.with_suffix(".md").read_text()
    shown = dict(re.findall(r"^\| `(\w+)` \| [\d.]+ \| \w+ \| (.*) \|$", text, re.MULTILINE))
    for name, rows in table.groupby("benchmark"):
        sizes, runs = rows["batch_size"], rows.groupby("batch_size").size()
        span = f"{runs.min()} to {runs.max()}" if runs.min() < runs.max() else f"{runs.min()}"
        expected = f"{sizes.nunique()}, {sizes.min():,} to {sizes.max():,} | {span}"
        assert shown.pop(str(name)) == expected
    assert not shown
    assert f"{len(table)} rows" in text
    assert "Apache License 2.0" in text


def test_the_table_is_that_of_its_source() -> None:
    if not SOURCE.exists():
        pytest.skip(f"the published points are not beside the checkout: {SOURCE.name}")
    published = pd.read_csv(SOURCE)
    table = pd.read_csv(TABLE)
    pd.testing.assert_frame_equal(table, published[table.columns])
    # what was left out follows from what was kept
    np.testing.assert_allclose(table["steps"] * table["batch_size"], published["examples"])
    assert (published.groupby("benchmark")["version"].nunique() == 1).all()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder, with what was printed beside it."""
    folder = tmp_path_factory.mktemp("mlperf")
    done = command(["source=mlperf"], folder, "analysis", limit_seconds=120)
    assert done.code == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder / "reports" / "mlperf"


@pytest.mark.long
def test_the_readme_shows_what_the_command_prints(report: Path) -> None:
    printed = (report.parents[1] / "printed.txt").read_text()
    lines = re.findall(r"^(\w+): critical batch size (.*) for the target$", printed, re.MULTILINE)
    assert [name for name, _ in lines] == sorted(ROWS)
    readme = (ROOT / "README.md").read_text()
    for name, critical in lines:
        assert f"| `{name}` | {critical} |" in readme
    assert "The critical batch size is not identified: gpt_oss_20b (at least 64" in printed


@pytest.mark.long
def test_all_nine_lie_in_one_figure_with_its_table(report: Path) -> None:
    summary = json.loads((report / "summary.json").read_text())
    fits = {fit["group"]["benchmark.name"]: fit for fit in summary["fits"]}
    table = pd.read_csv(report / "tables" / "one_curve.csv")
    assert set(table["benchmark.name"]) == set(fits) == set(ROWS)
    for name, rows in table.groupby("benchmark.name"):
        fit = fits[str(name)]
        assert rows["identified"].unique().tolist() == [fit["identified"]]
        assert fit["identified"] == (name != "gpt_oss_20b")
        deviation = np.log(rows["relative_examples"] / rows["hyperbola"])
        assert np.sqrt((deviation**2).mean()) == pytest.approx(fit["rmse_log_steps"])
        if fit["identified"]:
            relative = rows["batch_size"] / fit["critical_batch_size"]
            np.testing.assert_allclose(rows["relative_batch_size"], relative)
        low, high = rows["relative_examples_low"], rows["relative_examples_high"]
        assert (low <= rows["relative_examples"]).all()
        assert (rows["relative_examples"] <= high).all()
    assert (report / "figures" / "one_curve_of_all.svg").exists()
    off = np.abs(np.log(table["relative_examples"] / table["hyperbola"]))
    assert (off < 0.05).mean() > 0.7  # "most points within 5 %"
    assert off.max() < 0.16


@pytest.mark.long
def test_the_page_says_it(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert "Do all groups lie on one curve?" in page
    assert "gpt_oss_20b (not identified)" in (report / "figures/one_curve_of_all.svg").read_text()
