"""The networks: shapes, paddings, order of layers, initialisation, memory formats, stacks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from scaling.models.colourization import ColourizationNet, SameConv2d, make_model
from scaling.models.config import KERNEL_SIZES, LAYOUTS, ColourizationModelConfig

SMALL = ColourizationModelConfig("pool_upsample", num_filters=4, num_colours=3)


def images(count: int = 4, side: int = 16, channels: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, side, side, generator=generator)


def loss_of(model: nn.Module, grey: Tensor) -> Tensor:
    """Cross-entropy to colours that follow brightness."""
    return functional.cross_entropy(model(grey), (grey[:, 0] * 2.999).long())


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_output_side_is_input_side(name: str, kernel_size: int, norm: str) -> None:
    config = replace(SMALL, name=name, kernel_size=kernel_size, norm=norm, in_channels=2)
    model = make_model(config, 0)
    for height, width in ((32, 32), (8, 20), (12, 4)):
        logits = model(torch.rand(2, 2, height, width))
        assert logits.shape == (2, 3, height, width)


@pytest.mark.parametrize(
    ("name", "down", "up"),
    [
        ("pool_upsample", "MaxPool2d", "Upsample"),
        ("conv_transpose", "strided", "ConvTranspose2d"),
        ("unet", "strided", "ConvTranspose2d"),
        ("conv_upsample", "strided", "Upsample"),
        ("pool_transpose", "MaxPool2d", "ConvTranspose2d"),
    ],
)
def test_how_the_side_changes(name: str, down: str, up: str) -> None:
    found = []
    for layer in ColourizationNet(replace(SMALL, name=name)).modules():
        if isinstance(layer, nn.MaxPool2d | nn.Upsample | nn.ConvTranspose2d):
            found.append(type(layer).__name__)
        elif isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            found.append("strided")
    assert found == [down, down, up, up]


@pytest.mark.parametrize("name", ["conv_transpose", "unet", "pool_transpose"])
@pytest.mark.parametrize(("kernel_size", "expected"), [(3, (1, 1)), (4, (1, 0)), (5, (2, 1))])
def test_strided_paddings(name: str, kernel_size: int, expected: tuple[int, int]) -> None:
    model = ColourizationNet(replace(SMALL, name=name, kernel_size=kernel_size))
    layers = list(model.modules())
    transposed = [layer for layer in layers if isinstance(layer, nn.ConvTranspose2d)]
    strided = [layer for layer in layers if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    assert len(transposed) == 2
    assert len(strided) == (0 if name == "pool_transpose" else 2)
    for layer in transposed:
        assert layer.padding == (expected[0],) * 2
        assert layer.output_padding == (expected[1],) * 2
    for layer in strided:
        assert layer.padding == (expected[0],) * 2


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
def test_same_convolution_is_torchs_same(kernel_size: int) -> None:
    layer = SameConv2d(2, 3, kernel_size)
    grey = torch.rand(2, 2, 8, 12)
    expected = functional.conv2d(grey, layer.weight, layer.bias, padding="same")
    torch.testing.assert_close(layer(grey), expected, rtol=1e-6, atol=1e-6)


def table_pool_upsample(model: ColourizationNet, grey: Tensor) -> Tensor:
    """PoolUpsampleNet in the order of its definition: upsampling before normalisation and ReLU."""
    layers = dict(model.named_modules())
    hidden = grey
    for block in ("block1", "block2"):
        hidden = functional.max_pool2d(layers[f"{block}.conv"](hidden), 2)
        hidden = layers[f"{block}.norm"](hidden).relu()
    for block in ("block3", "block4"):
        hidden = layers[f"{block}.conv"](hidden)
        hidden = functional.interpolate(hidden, scale_factor=2, mode="nearest")
        hidden = layers[f"{block}.norm"](hidden).relu()
    return model.block5(hidden)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_norm_before_upsampling_gives_the_numbers_of_norm_after(norm: str) -> None:
    grey = images().double()
    pair = [ColourizationNet(replace(SMALL, norm=norm)).double() for _ in range(2)]
    pair[1].load_state_dict(pair[0].state_dict())
    ours, table = pair[0](grey), table_pool_upsample(pair[1], grey)
    torch.testing.assert_close(ours, table, rtol=1e-12, atol=1e-12)
    for logits in (ours, table):
        functional.cross_entropy(logits, (grey[:, 0] * 2.999).long()).backward()
    for first, second in zip(pair[0].parameters(), pair[1].parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-9, atol=1e-12)


def test_running_variance_counts_a_value_once_before_upsampling() -> None:
    pair = [ColourizationNet(SMALL).double() for _ in range(2)]
    pair[1].load_state_dict(pair[0].state_dict())
    grey = images(count=2, side=8).double()
    pair[0](grey)
    table_pool_upsample(pair[1], grey)
    ours, table = (net.get_buffer("block3.norm.running_var") for net in pair)
    n = 2 * 2 * 2
    ratio = (n / (n - 1)) / (4 * n / (4 * n - 1))
    torch.testing.assert_close((ours - 0.9) / (table - 0.9), torch.full_like(ours, ratio))
    torch.testing.assert_close(
        *(net.get_buffer("block3.norm.running_mean") for net in pair), rtol=1e-9, atol=1e-12
    )


def test_unet_sees_the_image_and_the_first_block() -> None:
    unet = ColourizationNet(replace(SMALL, name="unet", norm="none"))
    grey = images(1)
    with torch.no_grad():
        half = unet.block1(grey)
        hidden = unet.block3(unet.block2(half))
        full = unet.block4(torch.cat([half, hidden], 1))
        expected = unet.block5(torch.cat([grey, full], 1))
        torch.testing.assert_close(unet(grey), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_seed_decides_every_bit(name: str) -> None:
    config = replace(SMALL, name=name)
    first, again, other = (make_model(config, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key in first if key.endswith(("conv.weight", "conv.bias"))]
    drawn += ["block5.weight", "block5.bias"]
    assert len(drawn) == 10
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


def test_initialisation_is_torchs() -> None:
    ours = make_model(SMALL, 5).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        torchs = ColourizationNet(SMALL).state_dict()
    assert list(ours) == list(torchs)
    assert all(torch.equal(ours[key], torchs[key]) for key in ours)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    make_model(SMALL, 7)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_channels_last_gives_close_numbers(name: str, kernel_size: int) -> None:
    config = replace(SMALL, name=name, kernel_size=kernel_size, ghost_batch_size=2)
    plain = make_model(config, 0)
    last = make_model(config, 0).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    grey = images()
    logits = last(grey.contiguous(memory_format=torch.channels_last))
    assert logits.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(logits, plain(grey), rtol=1e-4, atol=1e-5)
    for model in (plain, last):
        loss_of(model, grey).backward()
    for first, second in zip(plain.parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        replace(SMALL, name="unet"),
        replace(SMALL, kernel_size=4, ghost_batch_size=2),
        replace(SMALL, norm="group"),
    ],
    ids=["unet", "ghost", "group"],
)
def test_a_stack_has_the_gradients_of_its_members(config: ColourizationModelConfig) -> None:
    models = [make_model(config, seed).double() for seed in (0, 1, 2)]
    params, buffers = stack_module_state(models)
    grey = torch.stack([images(seed=seed) for seed in (0, 1, 2)]).double()

    def loss(params: dict[str, Tensor], buffers: dict[str, Tensor], grey: Tensor) -> Tensor:
        logits = functional_call(models[0], (params, buffers), (grey,))
        return functional.cross_entropy(logits, (grey[:, 0] * 2.999).long())

    gradients = vmap(grad(loss))(params, buffers, grey)
    for row, model in enumerate(models):
        loss_of(model, grey[row]).backward()
        for key, leaf in model.named_parameters():
            torch.testing.assert_close(gradients[key][row].detach(), leaf.grad)
        for key, leaf in model.named_buffers():
            torch.testing.assert_close(buffers[key][row], leaf)
