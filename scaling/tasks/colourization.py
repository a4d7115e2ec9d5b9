"""Colourization: every pixel of a grey image is classified into the colours of a palette."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from scaling.config import TrialConfig
from scaling.data.config import IMAGE_SETS, DataConfig
from scaling.data.palette import palette_text
from scaling.data.prepare import Prepared, prepare_data
from scaling.limits import ConfigError
from scaling.models.colourization import ColourizationNet
from scaling.models.config import ColourizationModelConfig, check_side, validate_model
from scaling.models.counts import Counts, total_counts

PICTURE_SIDE = 64  # pixels of one example


class Colourization:
    """Cross-entropy averaged over pixels (natural logarithm); accuracy is the share of pixels.

    The model-size axis is num_filters. With norm=batch and micro batches, statistics are those of
    a micro batch: they must be asked for as ghost batches.
    """

    def __init__(self, config: TrialConfig) -> None:
        if config.model is None or config.data is None:
            key = "model" if config.model is None else "data"
            raise ConfigError(key, None, "the task colourization requires a model and data")
        validate_model(config.model)
        _check_micro_batches(config, config.model)
        prepared = _prepared(json.dumps(asdict(config.data)), str(cache_folder(config)))
        check_side("data.side", prepared.grey.shape[2])
        check_side("data.side", prepared.grey.shape[3])
        n_colours = len(prepared.palette)
        self.config = replace(config.model, num_colours=n_colours)
        self.palette = torch.from_numpy(prepared.palette)
        self.train = (prepared.grey, prepared.labels)
        self.held_out = (prepared.held_out_grey, prepared.held_out_labels)
        self.model_size = config.model.num_filters
        self.content_hash = prepared.content_hash
        self.facts = self._facts(prepared)
        self.files = {"palette.csv": palette_text(prepared.palette)}

    def _facts(self, prepared: Prepared) -> dict[str, Any]:
        totals = _totals(json.dumps(asdict(self.config)), prepared.grey.shape[2])
        return {
            "weights": totals.weights,
            "outputs": totals.outputs,
            "connections": totals.connections,
            "model.num_colours": len(prepared.palette),
            "train_images": len(prepared.grey),
            "held_out_images": len(prepared.held_out_grey),
            "skipped_files": len(prepared.skipped),
            "data_hash": prepared.content_hash,
        }

    def model(self) -> nn.Module:
        return ColourizationNet(self.config)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, labels.long())

    def metrics(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"accuracy": (outputs.argmax(1) == labels).double().mean()}

    def picture(self, grey: Tensor, outputs: Tensor, labels: Tensor) -> np.ndarray:
        """A column an example: grey, predicted, true; uint8 [H, W, 3], enlarged."""
        palette = self.palette.to(labels.device)
        rows = [
            grey[:, 0, :, :, None].expand(-1, -1, -1, 3),
            palette[outputs.argmax(1)],
            palette[labels.long()],
        ]
        tall = torch.cat(rows, 1)  # [examples, 3 H, W, 3]
        picture = (tall.clamp(0, 1) * 255).round().to(torch.uint8)
        picture = picture.permute(1, 0, 2, 3).flatten(1, 2).cpu().numpy()
        factor = max(1, PICTURE_SIDE // grey.shape[-1])
        return picture.repeat(factor, 0).repeat(factor, 1)


def _check_micro_batches(config: TrialConfig, model: ColourizationModelConfig) -> None:
    size = config.micro_batch_size
    if size is not None and model.norm == "batch" and model.ghost_batch_size != size:
        allowed = (
            f"normalises {size} examples together: set model.ghost_batch_size={size}, "
            "or use model.norm=group or none"
        )
        raise ConfigError("micro_batch_size", size, allowed)


def cache_folder(config: TrialConfig) -> Path:
    """Where prepared images are kept."""
    if config.cache_dir is not None:
        return Path(config.cache_dir).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "batch-scaling"


@lru_cache(maxsize=2)
def _prepared(data: str, folder: str) -> Prepared:
    """Once a process, however many trials use it."""
    content = json.loads(data)
    config: DataConfig = IMAGE_SETS[content["name"]](**content)
    return prepare_data(config, Path(folder))


@lru_cache(maxsize=64)
def _totals(model: str, side: int) -> Counts:
    """Counting runs the network once, for as long as a small one trains for ten steps."""
    return total_counts(ColourizationModelConfig(**json.loads(model)), side)
