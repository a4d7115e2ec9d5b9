"""The lock under which a database is opened is this user's alone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from scaling.store.check import StoreError, checked


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"batch-scaling-{os.getuid()}"


def test_no_other_user_can_hold_it(temporary: Path, tmp_path: Path) -> None:
    with checked(f"sqlite:///{tmp_path}/own.db"):
        assert temporary.stat().st_mode & 0o777 == 0o700
        assert len(list(temporary.iterdir())) == 1


def test_a_folder_that_somebody_else_prepared_is_one_line(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    temporary.symlink_to(tmp_path / "theirs")
    refused = pytest.raises(StoreError, match="belongs to another user")
    with refused, checked(f"sqlite:///{tmp_path}/own.db"):
        pass
    assert list((tmp_path / "theirs").iterdir()) == []
