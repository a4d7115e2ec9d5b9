"""Large libraries are imported once and stay: garbage is not looked for among what they made."""

from __future__ import annotations

import atexit
import gc
import importlib


def import_for_good(*names: str) -> None:
    """Of torch, a tenth of the time goes into looking for cycles, and so does 0.4 s at the end of
    the process. What else a program makes is collected as ever."""
    before = gc.get_threshold()
    gc.set_threshold(50_000)
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        gc.set_threshold(*before)
    gc.freeze()
    atexit.register(gc.freeze)
