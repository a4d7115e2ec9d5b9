"""Libraries that are imported for good: their garbage is not looked for, everybody else's is."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from scaling.imports import import_for_good


class Node:
    def __init__(self) -> None:
        self.itself = self


def test_what_is_made_afterwards_is_collected() -> None:
    before = gc.get_threshold()
    import_for_good("json")
    assert gc.get_threshold() == before
    node = weakref.ref(Node())
    gc.collect()
    assert node() is None
    gc.unfreeze()


def test_a_module_that_is_not_there() -> None:
    before = gc.get_threshold()
    with pytest.raises(ModuleNotFoundError):
        import_for_good("no_such_module_anywhere")
    assert gc.get_threshold() == before


def test_what_is_registered_for_the_end_is_still_called() -> None:
    code = (
        "import atexit; from scaling.imports import import_for_good; import_for_good('torch');"
        "atexit.register(print, 'called')"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "called\n"
