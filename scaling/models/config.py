"""Fields, defaults and checks of a colourization network's configuration; light to import."""

from __future__ import annotations

from dataclasses import dataclass

from scaling.config import MISSING, ConfigError


@dataclass(frozen=True)
class Layout:
    """How a network halves and doubles the side, and whether block outputs skip ahead."""

    pools: bool  # else strided convolutions
    upsamples: bool  # else transposed convolutions
    skips: bool = False


LAYOUTS: dict[str, Layout] = {
    "pool_upsample": Layout(pools=True, upsamples=True),
    "conv_transpose": Layout(pools=False, upsamples=False),
    "unet": Layout(pools=False, upsamples=False, skips=True),
    "conv_upsample": Layout(pools=False, upsamples=True),
    "pool_transpose": Layout(pools=True, upsamples=False),
}
KERNEL_SIZES = (3, 4, 5)
NORMS = ("batch", "group", "none")
MOST = 65536


@dataclass
class ColourizationModelConfig:
    """A network of scaling.models.colourization.

    num_filters is the model-size axis. ghost_batch_size: examples that batch normalisation takes
    together, null for the whole batch. norm_groups: most groups of a group normalisation.
    """

    name: str = MISSING
    kernel_size: int = 3
    in_channels: int = 1
    num_filters: int = 32
    num_colours: int = 24
    norm: str = "batch"
    ghost_batch_size: int | None = None
    norm_groups: int = 4


def validate_model(config: ColourizationModelConfig) -> None:
    """Raise ConfigError for the first value that no network can have."""
    _member("model.name", config.name, tuple(LAYOUTS))
    _member("model.kernel_size", config.kernel_size, KERNEL_SIZES)
    _whole("model.in_channels", config.in_channels, 1)
    _whole("model.num_filters", config.num_filters, 1)
    _whole("model.num_colours", config.num_colours, 2)
    _member("model.norm", config.norm, NORMS)
    _whole("model.norm_groups", config.norm_groups, 1)
    if config.ghost_batch_size is not None:
        _whole("model.ghost_batch_size", config.ghost_batch_size, 1)
        if config.norm != "batch":
            allowed = f"needs model.norm=batch, not {config.norm}; set it to null"
            raise ConfigError("model.ghost_batch_size", config.ghost_batch_size, allowed)


def check_images(config: ColourizationModelConfig, shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless images of this shape, [B, in_channels, H, W], fit the network."""
    if len(shape) != 4:
        raise ConfigError("images", list(shape), "must be [batch, channels, height, width]")
    if shape[1] != config.in_channels:
        allowed = f"the model expects so many channels, the images have {shape[1]}"
        raise ConfigError("model.in_channels", config.in_channels, allowed)
    check_side("image height", shape[2])
    check_side("image width", shape[3])


def check_side(key: str, side: int) -> None:
    """Raise ConfigError for a side that cannot be halved twice and doubled back."""
    if not 4 <= side <= MOST or side % 4:
        raise ConfigError(key, side, f"must be a multiple of 4 from 4 to {MOST}")


def _member(key: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed or type(value) is not type(allowed[0]):
        raise ConfigError(key, value, f"must be one of {', '.join(map(str, allowed))}")


def _whole(key: str, value: int, least: int) -> None:
    if type(value) is not int or not least <= value <= MOST:
        raise ConfigError(key, value, f"must be a whole number from {least} to {MOST}")
