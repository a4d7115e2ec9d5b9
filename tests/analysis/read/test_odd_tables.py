"""Any file ends in a report, or in one line that says what is wrong with it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.errors import AnalysisError
from analysis.source import Choice, analyse_source, read_source
from tests.analysis.read.odd_tables import good, odd_files, write
from tests.sweeps.in_process import command

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
BOUNDED = settings(deadline=None, database=None, suppress_health_check=SLOW, print_blob=True)
KINDS = st.sampled_from(["curves_csv", "steps_csv"])
FILES = KINDS.flatmap(lambda kind: st.tuples(st.just(kind), odd_files(kind)))


def check(kind: str, path: Path) -> None:
    choice = Choice(kind=kind, study="odd", tracking_uri="", path=str(path), targets=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = ""
        try:
            analyse_source(read_source(choice), choice, n_bootstrap=2, seed=0)
        except AnalysisError as error:
            said = str(error)
    assert "\n" not in said
    assert len(said) < 1500


@pytest.mark.parametrize("kind", ["curves_csv", "steps_csv"])
def test_the_file_without_anything_odd(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, ("good.csv", good(kind).to_csv(index=False).encode()))
    choice = Choice(kind=kind, study="good", tracking_uri="", path=str(path), targets=None)
    assert analyse_source(read_source(choice), choice, n_bootstrap=2, seed=0).targets


@settings(BOUNDED, max_examples=25, derandomize=True)
@given(FILES)
def test_odd_files(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[str, tuple[str, bytes]]
) -> None:
    check(file[0], write(tmp_path_factory.mktemp("odd"), file[1]))


@pytest.mark.parametrize("kind", ["curves_csv", "steps_csv"])
@pytest.mark.parametrize("column", ["batch_size", "loss", "steps"])
def test_a_column_of_arrays(kind: str, column: str, tmp_path: Path) -> None:
    frame = good(kind)
    if column not in frame:
        pytest.skip("of the other kind")
    frame[column] = [[value, value] for value in frame[column]]
    frame.to_parquet(tmp_path / "arrays.parquet")
    choice = Choice(kind=kind, study="odd", tracking_uri="", path=str(tmp_path / "arrays.parquet"))
    with pytest.raises(AnalysisError, match=column) as caught:
        read_source(choice)
    assert "\n" not in str(caught.value)


@pytest.mark.long
@settings(BOUNDED, max_examples=100)
@given(FILES)
def test_odd_files_through_the_command(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[str, tuple[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    path = write(folder, file[1])
    words = [f"source={file[0]}", f"source.path={path.name}", "n_bootstrap=2"]
    done = command(words, folder, "analysis", limit_seconds=60)
    assert done.code in (0, 2), done.stderr
    assert "Traceback" not in done.stderr
    if done.code:
        assert done.lines == 1, done.stderr
        assert not done.created, done.created
