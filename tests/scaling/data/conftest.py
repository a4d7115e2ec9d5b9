from __future__ import annotations

from pathlib import Path

import pytest

from scaling.data import prepare
from scaling.data.config import DataConfig


@pytest.fixture
def n_loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one for every time that images are read from their source."""
    loads: list[str] = []
    load = prepare.load_images

    def counted(config: DataConfig, cache_folder: Path) -> object:
        loads.append(config.name)
        return load(config, cache_folder)

    monkeypatch.setattr(prepare, "load_images", counted)
    return loads
