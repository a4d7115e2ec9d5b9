"""Registers the typed configuration of scaling.config as Hydra's schema."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from scaling.config import OPTIMIZERS, TASKS, TrialConfig


def register() -> None:
    store = ConfigStore.instance()
    store.store(group="schema", name="trial", node=TrialConfig)
    for name, node in TASKS.items():
        store.store(group="schema/task", name=name, node=node)
    for name, node in OPTIMIZERS.items():
        store.store(group="schema/optimizer", name=name, node=node)
