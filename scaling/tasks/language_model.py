"""A language model: each next character of a text, by a small decoder-only transformer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from scaling.config import TrialConfig
from scaling.data.config import TextConfig
from scaling.data.text import Text, decode, read_text
from scaling.limits import ConfigError
from scaling.models.config import validate_transformer
from scaling.models.transformer import Transformer, multiply_adds, non_embedding_parameters
from scaling.schema import TRAIN_EXAMPLES
from scaling.tasks.text_picture import draw_samples

SAMPLES = 3  # in a picture
WRITTEN = 160  # characters that each goes on
TEMPERATURE = 0.8


class LanguageModel:
    """Cross-entropy in nats, averaged over the tokens of sequences; accuracy is the share of tokens
    that were the likeliest.

    An example is a sequence of `units_per_example` tokens. model_size: parameters without
    embeddings and head (Kaplan et al. 2020, arXiv:2001.08361).
    """

    example, unit = "sequence", "tokens"

    def __init__(self, config: TrialConfig) -> None:
        if config.model is None or config.data is None:
            key = "model" if config.model is None else "data"
            raise ConfigError(key, None, "the task language_model requires a model and data")
        validate_transformer(config.model)
        self._text = _text(json.dumps(asdict(config.data)))
        self.config = config.model
        self.train, self.held_out = (
            (tokens[:, :-1], tokens[:, 1:]) for tokens in (self._text.train, self._text.held_out)
        )
        self.units_per_example = config.data.sequence_length
        self.model_size = non_embedding_parameters(self.config)
        self.content_hash = self._text.content_hash
        self.facts = self._facts()

    @property
    def sizes(self) -> dict[str, int]:
        """What the network takes from its data."""
        vocabulary, length = self._text.vocabulary, self.units_per_example
        return {"vocabulary_size": len(vocabulary), "sequence_length": length}

    def _facts(self) -> dict[str, Any]:
        length = self.units_per_example
        return {
            "connections": multiply_adds(self.config, len(self._text.vocabulary), length),
            "vocabulary": len(self._text.vocabulary),
            TRAIN_EXAMPLES: len(self._text.train),
            "held_out_examples": len(self._text.held_out),
            "unknown_fraction": self._text.unknown_fraction,
            "text_files": self._text.n_files,
            "data_hash": self.content_hash,
        }

    def model(self) -> nn.Module:
        return Transformer(self.config, **self.sizes)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten().long())

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"accuracy": (outputs.argmax(-1) == targets).double().mean()}

    def sample(self, model: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Tokens [SAMPLES, L + WRITTEN]: the first inputs, and what the model writes after them.

        Drawn at TEMPERATURE by a generator of its own: the same each time, whatever was drawn
        before. The model sees the last L tokens.
        """
        length, generator = inputs.shape[1], torch.Generator().manual_seed(0)
        tokens = inputs[:SAMPLES].long()
        for _ in range(WRITTEN):
            logits = model(tokens[:, -length:])[:, -1].double().cpu() / TEMPERATURE
            if not torch.isfinite(logits).all():  # diverged
                logits = torch.zeros_like(logits)
            logits[:, -1] = -torch.inf  # what is unknown cannot be written
            drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            tokens = torch.cat([tokens, drawn.to(tokens.device)], 1)
        return tokens

    def picture(self, inputs: Tensor, samples: Tensor, targets: Tensor) -> np.ndarray:
        """Text that was given and how the model goes on; uint8 [H, W, 3]."""
        length = inputs.shape[1]
        texts = [decode(row, self._text.vocabulary) for row in samples.tolist()]
        return draw_samples([(text[:length], text[length:]) for text in texts])


@lru_cache(maxsize=2)
def _text(data: str) -> Text:
    """Once a process, however many trials use it."""
    return read_text(TextConfig(**json.loads(data)))
