"""Registers the typed configuration of scaling.config as Hydra's schema."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from scaling.config import OPTIMIZERS, TASKS, TrialConfig
from scaling.data.config import DATASETS
from scaling.models.config import ColourizationModelConfig


def register() -> None:
    store = ConfigStore.instance()
    store.store(group="schema", name="trial", node=TrialConfig)
    for name, node in TASKS.items():
        store.store(group="schema/task", name=name, node=node)
    for name, node in OPTIMIZERS.items():
        store.store(group="schema/optimizer", name=name, node=node)
    for name, node in DATASETS.items():
        store.store(group="schema/data", name=name, node=node)
    store.store(group="schema/model", name="colourization", node=ColourizationModelConfig)
