"""What was prepared is kept on disk: damaged files, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from scaling.data.prepare import Prepared, prepare_data
from tests.scaling.data.examples import assert_same, source


def cached_file(cache: Path, suffix: str) -> Path:
    (found,) = cache.rglob(f"*{suffix}")
    return found


@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_off_cache_is_made_again(
    tmp_path: Path, n_loads: list[str], suffix: str, share: float
) -> None:
    config = source(tmp_path / "data")
    first = prepare_data(config, tmp_path / "cache")
    path = cached_file(tmp_path / "cache", suffix)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert_same(prepare_data(config, tmp_path / "cache"), first)
    assert_same(prepare_data(config, tmp_path / "cache"), first)
    assert len(n_loads) == 2
    assert path.stat().st_size == len(whole)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_no_flipped_bit_is_believed(tmp_path: Path, suffix: str) -> None:
    config = source(tmp_path / "data")
    first = prepare_data(config, tmp_path / "cache")
    path = cached_file(tmp_path / "cache", suffix)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.choice(len(whole), 120, replace=len(whole) < 120):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        assert_same(prepare_data(config, tmp_path / "cache"), first)


def test_missing_arrays_are_made_again(tmp_path: Path, n_loads: list[str]) -> None:
    config = source(tmp_path / "data")
    first = prepare_data(config, tmp_path / "cache")
    cached_file(tmp_path / "cache", ".npz").unlink()
    assert_same(prepare_data(config, tmp_path / "cache"), first)
    np.savez(cached_file(tmp_path / "cache", ".npz"), grey=np.array([print], object))
    assert_same(prepare_data(config, tmp_path / "cache"), first)
    assert len(n_loads) == 3


def test_several_at_once_read_the_source_once(tmp_path: Path, n_loads: list[str]) -> None:
    config = source(tmp_path / "data")
    results: list[Prepared] = []

    def work() -> None:
        results.append(prepare_data(config, tmp_path / "cache"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(n_loads) == 1
    for result in results[1:]:
        assert_same(result, results[0])


@pytest.mark.long
def test_two_processes_at_once(tmp_path: Path) -> None:
    source(tmp_path / "data")
    code = (
        "from pathlib import Path; from scaling.data.config import NpzConfig;"
        "from scaling.data.prepare import prepare_data;"
        "print(prepare_data(NpzConfig(path='data/x.npz', num_colours=4), Path('c')).content_hash)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-W", "error", "-c", code]
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=100)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] != ""
    assert [path.suffix for path in (tmp_path / "c").rglob("*.npz")] == [".npz"]
