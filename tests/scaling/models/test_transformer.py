"""The transformer against torch's own encoder, its closed forms, and what no network can have."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scaling.limits import ConfigError
from scaling.models.config import TransformerConfig
from scaling.models.transformer import Transformer, multiply_adds, non_embedding_parameters

CONFIG = TransformerConfig(depth=2, width=12, heads=3)
VOCABULARY, LENGTH = 17, 9


def network(config: TransformerConfig = CONFIG, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(config, VOCABULARY, LENGTH).double()


def tokens(seed: int = 1, rows: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (rows, LENGTH), generator=generator, dtype=torch.uint8)


def torchs_logits(mine: Transformer, given: Tensor) -> Tensor:
    """The same weights in torch.nn.TransformerEncoder with a causal mask."""
    layer = nn.TransformerEncoderLayer(
        12, 3, 48, 0.0, functional.gelu, batch_first=True, norm_first=True, bias=False
    )
    theirs = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double()
    blocks, layers = cast(Any, mine.blocks), cast(Any, theirs.layers)
    with torch.no_grad():
        for block, one in zip(blocks, layers, strict=True):
            one.self_attn.in_proj_weight.copy_(block.attention.qkv.weight)
            one.self_attn.out_proj.weight.copy_(block.attention.out.weight)
            one.linear1.weight.copy_(block.mlp.up.weight)
            one.linear2.weight.copy_(block.mlp.out.weight)
            one.norm1.weight.copy_(block.attention_norm.weight)
            one.norm2.weight.copy_(block.mlp_norm.weight)
    hidden = mine.token_embedding(given.long()) + mine.position_embedding.weight
    mask = nn.Transformer.generate_square_subsequent_mask(LENGTH, dtype=torch.float64)
    head = mine.token_embedding if mine.head is None else mine.head
    return mine.norm(theirs(hidden, mask=mask)) @ head.weight.T


@pytest.mark.parametrize("tied", [True, False])
def test_it_equals_torchs_encoder_with_a_causal_mask(tied: bool) -> None:
    mine = network(replace(CONFIG, tied_embeddings=tied))
    with torch.no_grad():
        for name, weight in mine.named_parameters():
            if "norm" in name:  # ones at the start would hide which is which
                weight.uniform_(0.5, 1.5)
    torch.testing.assert_close(mine(tokens()), torchs_logits(mine, tokens()), rtol=0, atol=1e-9)


def test_no_logit_depends_on_a_later_token() -> None:
    mine, given = network(), tokens()
    changed = given.clone()
    changed[:, 5] = (changed[:, 5] + 1) % VOCABULARY
    before, after = mine(given), mine(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.isclose(before[:, 5:], after[:, 5:]).all(-1).any()


def test_shorter_sequences_have_the_same_first_logits() -> None:
    mine = network()
    torch.testing.assert_close(mine(tokens()[:, :4]), mine(tokens())[:, :4], rtol=0, atol=1e-12)


def test_loss_at_the_start_is_that_of_guessing() -> None:
    """log V: the head's first logits are small."""
    given, wanted = tokens(), tokens(2).flatten().long()
    losses = [
        functional.cross_entropy(network(seed=seed)(given).flatten(0, 1), wanted)
        for seed in range(5)
    ]
    assert torch.stack(losses).mean().item() == pytest.approx(math.log(VOCABULARY), rel=0.1)


def test_gradients_of_single_examples_average_to_that_of_the_batch() -> None:
    mine, given, wanted = network(), tokens(), tokens(2).long()
    params: dict[str, Any] = dict(mine.named_parameters())

    def loss(params: dict[str, Tensor], row: Tensor, target: Tensor) -> Tensor:
        logits = torch.func.functional_call(mine, params, (row[None],))
        return functional.cross_entropy(logits[0], target)

    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(params, given, wanted)
    functional.cross_entropy(mine(given).flatten(0, 1), wanted.flatten()).backward()
    for name, param in params.items():
        torch.testing.assert_close(each[name].mean(0), param.grad, rtol=0, atol=1e-9)


@pytest.mark.parametrize("config", [CONFIG, TransformerConfig(depth=3, width=8, heads=1)])
def test_parameters_by_hand(config: TransformerConfig) -> None:
    mine = network(config)
    embeddings = (VOCABULARY + LENGTH) * config.width
    n_parameters = sum(p.numel() for p in mine.parameters())
    assert n_parameters - embeddings == non_embedding_parameters(config)
    untied = network(replace(config, tied_embeddings=False))
    assert sum(p.numel() for p in untied.parameters()) == n_parameters + VOCABULARY * config.width


def test_multiply_adds_are_half_of_what_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network()(tokens(rows=1))
    assert counter.get_total_flops() == 2 * multiply_adds(CONFIG, VOCABULARY, LENGTH)


def test_initial_weights_have_their_standard_deviations() -> None:
    mine = network(TransformerConfig(depth=2, width=96, heads=4))
    first = cast(Any, mine.blocks[0])
    for weight, variance in (
        (mine.token_embedding.weight, 1 / 288),
        (first.attention.qkv.weight, 1 / 288),
        (first.mlp.out.weight, 1 / 288 / 4),
    ):
        assert weight.std().item() == pytest.approx(math.sqrt(variance), rel=0.06)


def test_what_no_network_can_have_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"model\.heads=5: must divide model\.width=12"):
        network(replace(CONFIG, heads=5))
    with pytest.raises(ConfigError, match="the network takes at most 9 tokens"):
        network()(torch.zeros(1, 10, dtype=torch.long))
