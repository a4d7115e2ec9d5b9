"""What identifies custom code: its sources, read again only when a file changes."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from scaling.custom_code import digest_of_sources


def test_the_digest_follows_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digested.py").write_text("import digested_part\n")
    part = tmp_path / "digested_part.py"
    part.write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("digested")

    first = digest_of_sources(module)
    first_text = first.hexdigest()
    first.update(b"of the caller alone")
    assert digest_of_sources(module).hexdigest() == first_text
    part.write_text("x = 1234\n")
    assert digest_of_sources(module).hexdigest() != first_text
    part.write_text("x = 1\n")
    assert digest_of_sources(module).hexdigest() == first_text
    part.unlink()
    assert digest_of_sources(module).hexdigest() != first_text
