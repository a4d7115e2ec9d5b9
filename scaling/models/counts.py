"""What a colourization network counts, by its layers and by closed forms.

layer_counts goes through the layers of the network itself; the closed forms below are derived by
hand and know nothing of it. In the formulas k = kernel_size, I = in_channels, F = num_filters,
C = num_colours, H = side. Conventions: taps on padding count, a transposed convolution has k^2
taps for each value it takes, a pooled value has 4 connections, an upsampled one has 1, and
normalisation and ReLU have neither outputs nor connections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from scaling.commands import OneLineParser, command
from scaling.limits import ConfigError
from scaling.models.colourization import ColourizationNet
from scaling.models.config import LAYOUTS, ColourizationModelConfig, check_side, validate_model


@dataclass(frozen=True)
class Counts:
    """Of one layer or of a whole network, for one image; shape: channels, height, width out."""

    layer: str
    shape: tuple[int, int, int]
    weights: int = 0
    biases: int = 0
    norm_parameters: int = 0
    outputs: int = 0
    connections: int = 0

    @property
    def parameters(self) -> int:
        return self.weights + self.biases + self.norm_parameters


NUMBERS = tuple(field.name for field in fields(Counts) if field.type == "int")


def layer_counts(config: ColourizationModelConfig, side: int) -> list[Counts]:
    """The layers that have parameters, outputs or connections, in the order they are run.

    side: of the square image, a multiple of 4. ConfigError for it or the configuration.
    """
    check_side("side", side)
    rows: list[Counts] = []
    with torch.device("meta"), torch.no_grad():  # shapes without numbers, whatever the size
        model = ColourizationNet(config).eval()
        for name, layer in model.named_modules():
            if not list(layer.children()) and not isinstance(layer, nn.ReLU):
                layer.register_forward_hook(
                    lambda layer, inputs, output, name=name: rows.append(
                        _count(name, layer, inputs[0], output)
                    )
                )
        model(torch.empty(1, config.in_channels, side, side))
    return rows


def total_counts(config: ColourizationModelConfig, side: int) -> Counts:
    """The sums of layer_counts; shape is that of the logits."""
    rows = layer_counts(config, side)
    sums = {key: sum(getattr(row, key) for row in rows) for key in NUMBERS}
    return Counts("total", rows[-1].shape, **sums)


def _count(name: str, layer: nn.Module, given: Tensor, output: Tensor) -> Counts:
    _, channels, height, width = output.shape
    shape, outputs = (channels, height, width), output.numel()
    match layer:
        case nn.Conv2d() | nn.ConvTranspose2d():
            assert layer.bias is not None
            taps = math.prod(layer.kernel_size) * layer.in_channels * layer.out_channels
            positions = given if isinstance(layer, nn.ConvTranspose2d) else output
            connections = positions.shape[2] * positions.shape[3] * taps
            return Counts(
                name, shape, layer.weight.numel(), layer.bias.numel(), 0, outputs, connections
            )
        case nn.MaxPool2d():
            return Counts(name, shape, outputs=outputs, connections=4 * outputs)
        case nn.Upsample():
            return Counts(name, shape, outputs=outputs, connections=outputs)
        case nn.BatchNorm2d() | nn.GroupNorm():
            parameters = sum(leaf.numel() for leaf in layer.parameters())
            return Counts(name, shape, norm_parameters=parameters)
    raise TypeError(f"{name}: there is no convention for counting a {type(layer).__name__}")


def weights_formula(config: ColourizationModelConfig) -> int:
    """k^2 (I F + 4 F^2 + F C + C^2); unet: + k^2 (F C + I C). At any side."""
    k, i, f, c = _symbols(config)
    skips = f * c + i * c if LAYOUTS[config.name].skips else 0
    return k**2 * (i * f + 4 * f**2 + f * c + c**2 + skips)


def parameters_formula(config: ColourizationModelConfig) -> int:
    """weights + biases 4 F + 2 C + normalisation 2 (4 F + C), nothing for norm=none."""
    _, _, f, c = _symbols(config)
    norm = 0 if config.norm == "none" else 2 * (4 * f + c)
    return weights_formula(config) + 4 * f + 2 * c + norm


def outputs_formula(config: ColourizationModelConfig, side: int) -> int:
    """H^2 (down + up + C), with
    down = 15/8 F where it pools, 3/8 F where it strides;
    up   = 5/16 F + 5/4 C where it upsamples, 1/4 F + C where it is transposed.
    pool_upsample: H^2 (35/16 F + 9/4 C), at H = 32 2240 F + 2304 C.
    """
    _, _, f, c = _symbols(config)
    layout = LAYOUTS[config.name]
    down = 30 * f if layout.pools else 6 * f
    up = 5 * f + 20 * c if layout.upsamples else 4 * f + 16 * c
    return _sixteenths(side) * (down + up + 16 * c)


def connections_formula(config: ColourizationModelConfig, side: int) -> int:
    """H^2 (down + up + k^2 C^2), with
    down = k^2 (I F + 1/2 F^2) + 3/2 F where it pools, k^2 (1/4 I F + 1/8 F^2) where it strides;
    up   = k^2 (1/8 F^2 + 1/4 F C), + 1/4 F + C where it upsamples;
    unet: + H^2 k^2 (1/4 F C + I C).
    pool_upsample: H^2 [k^2 (I F + 5/8 F^2 + 1/4 F C + C^2) + 7/4 F + C].
    """
    k, i, f, c = _symbols(config)
    layout = LAYOUTS[config.name]
    pooled, strided = k**2 * (16 * i * f + 8 * f**2) + 24 * f, k**2 * (4 * i * f + 2 * f**2)
    down = pooled if layout.pools else strided
    up = k**2 * (2 * f**2 + 4 * f * c) + (4 * f + 16 * c if layout.upsamples else 0)
    skips = k**2 * (4 * f * c + 16 * i * c) if layout.skips else 0
    return _sixteenths(side) * (down + up + 16 * k**2 * c**2 + skips)


def _symbols(config: ColourizationModelConfig) -> tuple[int, int, int, int]:
    validate_model(config)
    return config.kernel_size, config.in_channels, config.num_filters, config.num_colours


def _sixteenths(side: int) -> int:
    """H^2 / 16, whole because the side is a multiple of 4."""
    check_side("side", side)
    return (side // 4) ** 2


def counts_table(config: ColourizationModelConfig, side: int) -> str:
    """The layers and their totals as text."""
    rows = [*layer_counts(config, side), total_counts(config, side)]
    heads = ("layer", "shape", *(key.replace("_", " ") for key in NUMBERS))
    cells = [
        (row.layer, "x".join(map(str, row.shape)), *(_cell(getattr(row, key)) for key in NUMBERS))
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = [_line(heads, widths), *(_line(row, widths) for row in cells)]
    lines.insert(-1, "-" * len(lines[0]))
    return "\n".join([*lines, "", f"{rows[-1].parameters:,} parameters"])


def _cell(number: int) -> str:
    return f"{number:,}" if number else ""


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; exit code 2 and one line for what cannot be counted."""
    default = ColourizationModelConfig()
    parser = OneLineParser(
        "counts",
        "Count the parameters and multiplications of a colourization network.",
        f"  {command('counts', 'pool_upsample', '--side', '32')}",
    )
    parser.add_argument("name", help=", ".join(LAYOUTS))
    for key in ("kernel_size", "num_filters", "num_colours", "in_channels"):
        option = f"--{key.replace('_', '-')}"
        parser.add_argument(option, type=int, default=getattr(default, key))
    parser.add_argument("--side", type=int, default=32, help="pixels, a multiple of 4")
    values = vars(parser.parse_args(arguments))
    side = values.pop("side")
    try:
        print(counts_table(ColourizationModelConfig(**values), side))
    except ConfigError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
