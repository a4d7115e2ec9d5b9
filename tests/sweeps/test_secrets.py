"""What a run leaves on disk and on the screen holds no password of its store's address."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweeps.in_process import command

SECRET = "S3cr3t-T9"
SHORT = ("task.dimension=4", "budget.max_steps=3", "batch_size=2", "study.name=kept")
ADDRESSES = [
    f"http://me@corp:{SECRET}@127.0.0.1:9",
    f"http://me:{SECRET} and more@127.0.0.1:9",
    f"http://{SECRET}@127.0.0.1:9",
    f"http://127.0.0.1:9/?api_key={SECRET}",
    f"http://127.0.0.1:9/?access_token={SECRET}",
    f"postgresql+psycopg://me@corp:{SECRET}@127.0.0.1:9/db",
]


def holders(folder: Path) -> list[str]:
    """Files with the secret in their name or content."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(f) for f in files if SECRET in f.name or SECRET.encode() in f.read_bytes()]


@pytest.mark.parametrize(
    ("multirun", "address"),
    [
        pytest.param(i % 2 == 0, address, marks=[pytest.mark.long] if i < 5 else [])
        for i, address in enumerate(ADDRESSES)
    ],
)
def test_a_store_that_does_not_answer(multirun: bool, address: str, tmp_path: Path) -> None:
    """One line; what was written before the store was asked is taken away again."""
    words = [*(["-m", "lr=0.1,0.2"] if multirun else []), *SHORT, f"tracking.uri='{address}'"]
    done = command(words, tmp_path, limit_seconds=90)
    assert done.code == 2, done.stderr
    assert done.lines == 1, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert done.created == ()


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_in_a_sweep_that_trains(address: str, tmp_path: Path) -> None:
    """Hydra's files, journals and the sweep's own files hold a question with such an address."""
    words = ["-m", "lr=0.1,0.2", *SHORT, "tracking.uri=none", f"study.question='see {address}'"]
    done = command(words, tmp_path, limit_seconds=90)
    assert done.code == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert any("hydra.yaml" in name for name in done.created)
    assert holders(tmp_path) == []


@pytest.mark.parametrize("launcher", ["stacked", pytest.param("basic", marks=pytest.mark.long)])
def test_a_store_that_answers(launcher: str, tmp_path: Path) -> None:
    """Journals, MLflow and Hydra's files of a whole sweep, whatever holds an address."""
    question = f"study.question='see http://me:{SECRET} x@h and http://h/?token={SECRET}'"
    words = ["-m", "lr=0.1,0.2", *SHORT, f"hydra/launcher={launcher}"]
    uri = f"tracking.uri='sqlite:///{tmp_path}/mlflow.db?access_token={SECRET}'"
    done = command([*words, uri, question], tmp_path, limit_seconds=120)
    assert done.code == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert holders(tmp_path) == []
