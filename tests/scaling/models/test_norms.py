"""Ghost batches, groups, and batch statistics recomputed on given data."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scaling.limits import ConfigError
from scaling.models.colourization import make_model
from scaling.models.config import ColourizationModelConfig
from scaling.models.norms import GhostBatchNorm2d, group_count, make_norm, recompute_statistics

SMALL = ColourizationModelConfig("conv_transpose", num_filters=8, num_colours=4)


def photos(count: int, seed: int, side: int = 16) -> Tensor:
    """Smooth grey images [count, 1, side, side], each with a brightness of its own."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 4, 4, generator=generator)
    smooth = functional.interpolate(coarse, size=side, mode="bilinear")
    return 0.5 * smooth + 0.5 * torch.rand(count, 1, 1, 1, generator=generator)


def loss_of(model: nn.Module, grey: Tensor) -> Tensor:
    return functional.cross_entropy(model(grey), (grey[:, 0] * 3.999).long())


@pytest.mark.parametrize("ghost_batch_size", [1, 3, 4, 12])
@pytest.mark.parametrize("channels_last", [False, True])
def test_ghost_batches_are_batches_of_their_own(ghost_batch_size: int, channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    values = 3 * torch.randn(12, 5, 4, 6, generator=generator) + 2
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    values = values.contiguous(memory_format=memory_format)
    values.requires_grad_()
    ghost, plain = GhostBatchNorm2d(5, ghost_batch_size), nn.BatchNorm2d(5)
    for layer in (ghost, plain):
        nn.init.constant_(layer.weight, 1.5)
        nn.init.constant_(layer.bias, -0.5)
    ours = ghost(values)
    expected = torch.cat([plain(part) for part in values.split(ghost_batch_size)])
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    assert ours.is_contiguous(memory_format=memory_format)
    for (key, first), second in zip(ghost.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6, msg=key)
    gradients = [
        torch.autograd.grad(out.square().mul(out).sum(), values) for out in (ours, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ghost.eval()(values), plain.eval()(values), rtol=1e-6, atol=1e-6)


def test_ghost_batches_differ_from_the_whole_batch() -> None:
    values = photos(8, 0)
    whole, halves = nn.BatchNorm2d(1)(values), GhostBatchNorm2d(1, 4)(values)
    assert (whole - halves).abs().max() > 0.01


def test_a_batch_that_ghosts_do_not_divide_is_named() -> None:
    layer = GhostBatchNorm2d(1, 4)
    with pytest.raises(ConfigError, match=r"^model\.ghost_batch_size=4: .*, 10$"):
        layer(photos(10, 0))
    assert layer.eval()(photos(10, 0)).shape == (10, 1, 16, 16)


def test_micro_batches_of_the_ghost_size_have_the_whole_batchs_gradient() -> None:
    config = replace(SMALL, ghost_batch_size=4)
    whole, parts = make_model(config, 0).double(), make_model(config, 0).double()
    grey = photos(12, 0).double()
    loss_of(whole, grey).backward()
    for part in grey.split(4):
        (loss_of(parts, part) / 3).backward()
    for first, second in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-9, atol=1e-12)
    for first, second in zip(whole.buffers(), parts.buffers(), strict=True):
        torch.testing.assert_close(first, second)


def test_groups_divide_the_channels() -> None:
    assert [group_count(channels, 4) for channels in (1, 2, 7, 8, 9, 24, 64)] == [
        1,
        2,
        1,
        4,
        3,
        4,
        4,
    ]
    assert [group_count(24, most) for most in (1, 5, 7, 8, 100)] == [1, 4, 6, 8, 24]


def test_group_norm_looks_at_one_example() -> None:
    model = make_model(replace(SMALL, norm="group"), 0)
    grey = photos(6, 0)
    torch.testing.assert_close(model(grey)[:1], model(grey[:1]), rtol=1e-5, atol=1e-6)
    groups = [layer.num_groups for layer in model.modules() if isinstance(layer, nn.GroupNorm)]
    assert groups == [4, 4, 4, 4]


def test_kinds_of_norm() -> None:
    assert type(make_norm(SMALL, 8)) is nn.BatchNorm2d
    assert type(make_norm(replace(SMALL, ghost_batch_size=4), 8)) is GhostBatchNorm2d
    assert type(make_norm(replace(SMALL, norm="group"), 8)) is nn.GroupNorm
    assert make_norm(replace(SMALL, norm="none"), 8) is None


def direct_statistics(model: nn.Module, batches: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance [C] of all values that each batch norm meets in training mode."""
    copied = copy.deepcopy(model).train()
    met: dict[str, list[Tensor]] = {}
    for name, layer in copied.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(
                lambda _, inputs, output, name=name: met.setdefault(name, []).append(inputs[0])
            )
    with torch.no_grad():
        for batch in batches:
            copied(batch)
    values = {key: torch.cat(parts).double().movedim(1, 0).flatten(1) for key, parts in met.items()}
    return {key: (rows.mean(1), rows.var(1)) for key, rows in values.items()}


@pytest.mark.parametrize("ghost_batch_size", [None, 2])
@pytest.mark.parametrize("sizes", [[6], [4, 4, 4], [10, 2, 4]], ids=str)
def test_recomputed_statistics_are_those_of_the_data(
    ghost_batch_size: int | None, sizes: list[int]
) -> None:
    model = make_model(replace(SMALL, ghost_batch_size=ghost_batch_size), 0)
    batches = [photos(size, seed) for seed, size in enumerate(sizes)]
    expected = direct_statistics(model, batches)
    recompute_statistics(model, iter(batches))
    assert len(expected) == 4
    for name, (mean, variance) in expected.items():
        running_mean, running_var = (
            model.get_buffer(f"{name}.running_{which}").double() for which in ("mean", "var")
        )
        torch.testing.assert_close(running_mean, mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(running_var, variance, rtol=1e-5, atol=1e-9)


def after_ten_steps() -> nn.Module:
    model = make_model(SMALL, 0)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(10):
        optimizer.zero_grad()
        loss_of(model, photos(32, step)).backward()
        optimizer.step()
    return model


def test_recomputed_statistics_mend_evaluation_after_ten_steps() -> None:
    model = after_ten_steps()
    held_out = photos(256, 100)
    with torch.no_grad():
        right = loss_of(copy.deepcopy(model), held_out).item()
        model.eval()
        stale = loss_of(model, held_out).item()
        recompute_statistics(model, [photos(64, seed) for seed in range(200, 204)])
        recomputed = loss_of(model, held_out).item()
    assert abs(stale - right) > 0.05 * right
    assert abs(recomputed - right) < 0.01 * right


@pytest.mark.parametrize("training", [False, True])
def test_recomputing_changes_nothing_else(training: bool) -> None:
    model = after_ten_steps().train(training)
    model.get_submodule("block2").train(not training)
    modes = [module.training for module in model.modules()]
    before = {key: leaf.clone() for key, leaf in model.state_dict().items()}
    recompute_statistics(model, [photos(8, 0)])
    assert [module.training for module in model.modules()] == modes
    after = model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if "running_" in key}
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_failed_recomputing_leaves_the_model_as_it_was() -> None:
    model = after_ten_steps().eval()
    before = {key: leaf.clone() for key, leaf in model.state_dict().items()}

    def batches() -> Iterator[Tensor]:
        yield photos(8, 0)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        recompute_statistics(model, batches())
    with pytest.raises(ValueError, match="at least one batch"):
        recompute_statistics(model, [])
    assert all(torch.equal(before[key], leaf) for key, leaf in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize("norm", ["group", "none"])
def test_nothing_to_recompute_takes_no_batch(norm: str) -> None:
    batches = iter([torch.zeros(1, 1, 4, 4)])
    recompute_statistics(make_model(replace(SMALL, norm=norm), 0), batches)
    assert len(list(batches)) == 1
