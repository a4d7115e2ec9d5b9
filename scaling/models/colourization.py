"""Networks that classify every pixel of a grey image into colours.

With F = num_filters, C = num_colours and the side as a part of the input's:

    block  takes                         gives  side   pools / upsamples   strided / transposed
    1      image                         F      1/2    conv, max pool 2    conv of stride 2
    2      block 1                       2F     1/4    conv, max pool 2    conv of stride 2
    3      block 2                       F      1/2    conv, upsample 2    transposed, stride 2
    4      block 3 (unet: 1 and 3)       C      1      conv, upsample 2    transposed, stride 2
    5      block 4 (unet: image and 4)   C      1      conv

Blocks 1 to 4 end with normalisation and ReLU. Both come before nearest upsampling: values that
stand four times have the mean and variance of the values, and it is a quarter of the work. (Only
the running variance notices: its factor n/(n - 1) is of n values instead of 4n.)

A kernel of k has padding (k - 1) // 2 and, transposed, output padding k mod 2, so that strides
halve and double the side (Dumoulin & Visin 2016, arXiv:1603.07285). Skips: Ronneberger et al.
2015, arXiv:1505.04597.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from scaling.models.config import LAYOUTS, ColourizationModelConfig, check_images, validate_model
from scaling.models.norms import make_norm


def make_model(config: ColourizationModelConfig, seed: int) -> nn.Module:
    """The network on the CPU, with torch's default initialisation drawn from `seed`.

    The weights are those of `torch.manual_seed(seed)` followed by the constructor, bit for bit;
    the global generators are left as they were (not safe while other threads draw from them).
    ConfigError for a value that no network can have.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would also seed the generators of every GPU, which are not forked.
        torch.default_generator.manual_seed(seed)
        return ColourizationNet(config)


class ColourizationNet(nn.Module):
    """Grey images [B, in_channels, H, W] in 0..1 to logits [B, num_colours, H, W].

    H and W are multiples of 4. ConfigError for other images, and for a configuration that no
    network can have.
    """

    def __init__(self, config: ColourizationModelConfig) -> None:
        validate_model(config)
        super().__init__()
        self.config = config
        filters, colours = config.num_filters, config.num_colours
        self.skips = LAYOUTS[config.name].skips
        self.block1 = _down(config, config.in_channels, filters)
        self.block2 = _down(config, filters, 2 * filters)
        self.block3 = _up(config, 2 * filters, filters)
        self.block4 = _up(config, 2 * filters if self.skips else filters, colours)
        skipped = config.in_channels if self.skips else 0
        self.block5 = SameConv2d(skipped + colours, colours, config.kernel_size)

    def forward(self, grey: Tensor) -> Tensor:
        check_images(self.config, tuple(grey.shape))
        half = self.block1(grey)
        hidden = self.block3(self.block2(half))
        if self.skips:
            hidden = torch.cat([half, hidden], 1)
        hidden = self.block4(hidden)
        if self.skips:
            hidden = torch.cat([grey, hidden], 1)
        return self.block5(hidden)


class SameConv2d(nn.Conv2d):
    """Convolution of stride 1 that keeps the side, as padding="same" does.

    No symmetric padding does so for an even kernel: the missing row and column of zeros go to the
    bottom and the right. (torch's own "same" does this with a warning.)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2)
        self.spare = 1 - kernel_size % 2

    def forward(self, input: Tensor) -> Tensor:
        if self.spare:
            input = functional.pad(input, (0, 1, 0, 1))
        return super().forward(input)


def _down(config: ColourizationModelConfig, channels_in: int, channels_out: int) -> nn.Sequential:
    kernel = config.kernel_size
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if LAYOUTS[config.name].pools:
        layers["conv"] = SameConv2d(channels_in, channels_out, kernel)
        layers["pool"] = nn.MaxPool2d(2)
    else:
        padding = (kernel - 1) // 2
        layers["conv"] = nn.Conv2d(channels_in, channels_out, kernel, 2, padding)
    return nn.Sequential(layers | _activation(config, channels_out))


def _up(config: ColourizationModelConfig, channels_in: int, channels_out: int) -> nn.Sequential:
    kernel = config.kernel_size
    if LAYOUTS[config.name].upsamples:
        conv = SameConv2d(channels_in, channels_out, kernel)
        after = OrderedDict(upsample=nn.Upsample(scale_factor=2, mode="nearest"))
    else:
        padding, spare = (kernel - 1) // 2, kernel % 2
        conv = nn.ConvTranspose2d(channels_in, channels_out, kernel, 2, padding, spare)
        after = OrderedDict()
    return nn.Sequential(OrderedDict(conv=conv) | _activation(config, channels_out) | after)


def _activation(config: ColourizationModelConfig, channels: int) -> OrderedDict[str, nn.Module]:
    norm = make_norm(config, channels)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if norm is not None:
        layers["norm"] = norm
    layers["relu"] = nn.ReLU(inplace=True)
    return layers
