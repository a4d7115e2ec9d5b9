"""Fields, defaults and limits of the configurations of networks; light to import."""

from __future__ import annotations

from dataclasses import dataclass

from scaling.limits import MISSING, ConfigError, check_limits, limited


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

    name: str = limited(MISSING, among=LAYOUTS)
    kernel_size: int = limited(3, among=KERNEL_SIZES)
    in_channels: int = limited(1, least=1, most=MOST)
    num_filters: int = limited(32, least=1, most=MOST)
    num_colours: int = limited(24, least=2, most=MOST)
    norm: str = limited("batch", among=NORMS)
    ghost_batch_size: int | None = limited(None, least=1, most=MOST)
    norm_groups: int = limited(4, least=1, most=MOST)


@dataclass
class TransformerConfig:
    """A network of scaling.models.transformer. Model size is depth x width: the parameters without
    embeddings and head."""

    name: str = limited("transformer", among=("transformer",))
    depth: int = limited(2, least=1, most=MOST)
    width: int = limited(64, least=1, most=MOST)
    heads: int = limited(4, least=1, most=MOST)
    tied_embeddings: bool = True


MODELS: dict[str, type[ColourizationModelConfig] | type[TransformerConfig]] = {
    **dict.fromkeys(LAYOUTS, ColourizationModelConfig),
    "transformer": TransformerConfig,
}


def validate_transformer(config: TransformerConfig) -> None:
    """Raise ConfigError for the first value that no network can have."""
    check_limits(config, "model.")
    if config.width % config.heads:
        allowed = f"must divide model.width={config.width}"
        raise ConfigError("model.heads", config.heads, allowed)


def validate_model(config: ColourizationModelConfig) -> None:
    """Raise ConfigError for the first value that no network can have."""
    check_limits(config, "model.")
    if config.ghost_batch_size is not None and config.norm != "batch":
        allowed = f"requires model.norm=batch, not {config.norm}; set it to null"
        raise ConfigError("model.ghost_batch_size", config.ghost_batch_size, allowed)


def check_images(config: ColourizationModelConfig, shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless images of this shape, [B, in_channels, H, W], fit the network."""
    if len(shape) != 4:
        raise ConfigError("images", list(shape), "must be [batch, channels, height, width]")
    if shape[1] != config.in_channels:
        allowed = f"must be the number of channels of the images, {shape[1]}"
        raise ConfigError("model.in_channels", config.in_channels, allowed)
    check_side("image height", shape[2])
    check_side("image width", shape[3])


def check_side(key: str, side: int) -> None:
    """Raise ConfigError for a side that cannot be halved twice and doubled back."""
    if not 4 <= side <= MOST or side % 4:
        raise ConfigError(key, side, f"must be a multiple of 4 from 4 to {MOST}")
