"""What sweeps say of themselves: tags and files of their parent runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from scaling.store.check import is_refused, reason_of
from scaling.store.client import Store
from scaling.store.note import Acknowledged
from scaling.store.pending import sweep_key
from scaling.store.runs import LeaveOut, Runs


class SweepWords:
    """By sweep: the first line of its journal, and all its words as one line."""

    def __init__(self, store: Store, noted: Acknowledged, runs: Runs, leave_out: LeaveOut) -> None:
        self._store, self._noted, self._runs, self._leave_out = store, noted, runs, leave_out
        self._words: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def take(self, opened: dict[str, Any], line: dict[str, Any]) -> None:
        """A sweep may speak several times; a word of the same name replaces the one before."""
        name = opened["sweep"]["name"]
        before = self._words.get(name, (opened, {"tags": {}, "files": {}}))[1]
        both = {key: {**before[key], **line[key]} for key in ("tags", "files")}
        self._words[name] = (opened, {**line, **both})

    def write(self, ends: Mapping[str, str]) -> None:
        """Write once what is new; ends: the status of each sweep that has ended."""
        for name, (opened, line) in self._words.items():
            words = json.dumps([line["tags"], line["files"]], sort_keys=True)
            digest = hashlib.sha256(words.encode()).hexdigest()[:16]
            if self._noted.words.get(sweep_key(name)) != digest:
                self._write_one(opened, line, ends.get(name, "FINISHED"), digest)

    def _write_one(
        self, opened: dict[str, Any], line: dict[str, Any], status: str, digest: str
    ) -> None:
        name = opened["sweep"]["name"]
        key = sweep_key(name)
        known = key in self._noted.runs
        try:
            run_id = self._runs.of_sweep({**opened["sweep"], "time": opened["time"]})
            self._store.log(run_id, [], tags=line["tags"])
        except Exception as error:
            if not is_refused(error):
                raise
            self._leave_out(key, f"sweep {name}: the store refuses it ({reason_of(error)})")
            return
        self._runs.write_texts(run_id, line["files"], f"sweep {name}")
        if not known:
            self._runs.close(key, status)
        self._noted.note(said=digest, sweep=key)
