"""A decoder-only transformer: tokens to the logits of each next one.

    x = token embedding + position embedding                           [B, L, width]
    x = x + attention(norm(x));  x = x + mlp(norm(x))                  depth times
    logits = head(norm(x))                                             [B, L, V]

Attention is causal, softmax(Q K' / sqrt(width / heads)) V in each head; the MLP is width -> 4 width
-> width with GELU. Norms are layer norms before each part, there are no biases, positions are
learned, and the head is the token embedding where they are tied: GPT-2 (Radford et al. 2019)
without biases and dropout. Initial weights are normal with standard deviation 1 / sqrt(3 width),
divided by sqrt(2 depth) where a part writes into x. At GPT-2's width, 768, that is 0.0208, and it
has 0.02; a narrow network with 0.02 hardly learns at first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from scaling.limits import ConfigError
from scaling.models.config import TransformerConfig, validate_transformer


class Transformer(nn.Module):
    """Tokens [B, l] (whole numbers below vocabulary_size, l <= sequence_length) to logits
    [B, l, vocabulary_size]. ConfigError for what no network can have."""

    def __init__(
        self, config: TransformerConfig, vocabulary_size: int, sequence_length: int
    ) -> None:
        validate_transformer(config)
        super().__init__()
        self.sequence_length = sequence_length
        self.token_embedding = nn.Embedding(vocabulary_size, config.width)
        self.position_embedding = nn.Embedding(sequence_length, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.head = None
        if not config.tied_embeddings:
            self.head = nn.Linear(config.width, vocabulary_size, bias=False)
        self._draw_weights(config)

    def _draw_weights(self, config: TransformerConfig) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                writes = name.endswith("out.weight")
                variance = 1 / (3 * config.width) / (2 * config.depth if writes else 1)
                nn.init.normal_(weight, std=math.sqrt(variance))

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[-1]
        if length > self.sequence_length:
            allowed = f"the network takes at most {self.sequence_length} tokens"
            raise ConfigError("tokens", list(tokens.shape), allowed)
        positions = torch.arange(length, device=tokens.device)
        hidden = self.token_embedding(tokens.long()) + self.position_embedding(positions)
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.norm(hidden)
        if self.head is None:
            return functional.linear(hidden, self.token_embedding.weight)
        return self.head(hidden)


class Block(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, config.heads)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.mlp = Mlp(width)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.attention(self.attention_norm(hidden))
        return hidden + self.mlp(self.mlp_norm(hidden))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)  # queries, keys, values of all heads
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        apart = self.qkv(hidden).unflatten(-1, (3, self.heads, -1))  # [B, L, 3, H, width / H]
        queries, keys, values = apart.transpose(1, 3).unbind(2)  # each [B, H, L, width / H]
        # Written out: torch's fused kernel is no faster at such lengths on a CPU, and torch.func
        # has no rule for it.
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        later = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, -math.inf).softmax(-1) @ values
        return self.out(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.out = nn.Linear(4 * width, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.out(functional.gelu(self.up(hidden)))


def non_embedding_parameters(config: TransformerConfig) -> int:
    """depth (12 width^2 + 2 width) + width: all but the embeddings and the head
    (Kaplan et al. 2020, arXiv:2001.08361, section 2.1, who leave out the norms as well)."""
    return config.depth * (12 * config.width**2 + 2 * config.width) + config.width


def multiply_adds(config: TransformerConfig, vocabulary_size: int, length: int) -> int:
    """Of one sequence, forward: each matrix once a token, L (12 depth width^2 + width V), and what
    attends, 2 depth width L^2. Masked pairs count, norms, softmax and look-ups do not."""
    matrices = 12 * config.depth * config.width**2 + config.width * vocabulary_size
    return length * matrices + 2 * config.depth * config.width * length**2
