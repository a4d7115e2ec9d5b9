"""Registers the typed configuration of scaling.config as Hydra's schema."""

from __future__ import annotations

import re

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from scaling.config import StudyConfig, TrialConfig
from scaling.data.config import DATASETS
from scaling.models.config import ColourizationModelConfig, TransformerConfig
from scaling.optimizers.config import OPTIMIZERS
from scaling.schema import RENAMED
from scaling.tasks.config import TASKS
from sweeps.command_line.study_files import DEFAULT_TASK

DEFAULT_NAME = StudyConfig().name
MOST_CHARACTERS = 100  # of a study's name


def nameless(task: str, path: str | None) -> str:
    """The name of a study that has none: one for each task, and for each custom task."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", str(path or task))
    return DEFAULT_NAME if task == DEFAULT_TASK else f"{DEFAULT_NAME}_{name}"[:MOST_CHARACTERS]


def register() -> None:
    OmegaConf.register_new_resolver("nameless", nameless, replace=True)
    store = ConfigStore.instance()
    store.store(group="schema", name="trial", node=TrialConfig)
    for name, node in TASKS.items():
        store.store(group="schema/task", name=name, node=node)
    for name, node in OPTIMIZERS.items():
        store.store(group="schema/optimizer", name=name, node=node)
    for (param, former), current in RENAMED.items():  # as the choice of a group, and in its files
        group = param.removesuffix(".name")
        node = {"defaults": [current, "_self_"], "name": former}
        store.store(group=group, name=former, node=node)
        store.store(group=f"schema/{group}", name=former, node=node)
    for name, node in DATASETS.items():
        store.store(group="schema/data", name=name, node=node)
    store.store(group="schema/model", name="colourization", node=ColourizationModelConfig)
    store.store(group="schema/model", name="transformer", node=TransformerConfig)
