"""Every value that no network can have is one line that names its key."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from scaling.limits import ConfigError
from scaling.models.colourization import make_model
from scaling.models.config import LAYOUTS, ColourizationModelConfig, validate_model

GOOD = ColourizationModelConfig("pool_upsample", num_filters=4, num_colours=3)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "resnet"}, "model.name=resnet: must be one of pool_upsample, conv_transpose, unet,"),
    ({"name": "???"}, "model.name=???: must be one of pool_upsample"),
    ({"kernel_size": 2}, "model.kernel_size=2: must be one of 3, 4, 5"),
    ({"kernel_size": 6}, "model.kernel_size=6: must be one of 3, 4, 5"),
    ({"kernel_size": 3.0}, "model.kernel_size=3.0: must be one of 3, 4, 5"),
    ({"in_channels": 0}, "model.in_channels=0: must be a whole number from 1 to 65536"),
    ({"num_filters": 0}, "model.num_filters=0: must be a whole number from 1 to 65536"),
    ({"num_filters": -8}, "model.num_filters=-8: must be a whole number from 1 to 65536"),
    ({"num_filters": 10**9}, "model.num_filters=1000000000: must be a whole number from 1 to"),
    ({"num_filters": 8.5}, "model.num_filters=8.5: must be a whole number from 1 to 65536"),
    ({"num_filters": True}, "model.num_filters=True: must be a whole number from 1 to 65536"),
    ({"num_colours": 1}, "model.num_colours=1: must be a whole number from 2 to 65536"),
    ({"norm": "layer"}, "model.norm=layer: must be one of batch, group, none"),
    ({"norm": None}, "model.norm=None: must be one of batch, group, none"),
    ({"norm_groups": 0}, "model.norm_groups=0: must be a whole number from 1 to 65536"),
    ({"ghost_batch_size": 0}, "model.ghost_batch_size=0: must be a whole number from 1 to 65536"),
    (
        {"ghost_batch_size": 4, "norm": "group"},
        "model.ghost_batch_size=4: requires model.norm=batch, not group; set it to null",
    ),
    (
        {"ghost_batch_size": 4, "norm": "none"},
        "model.ghost_batch_size=4: requires model.norm=batch, not none; set it to null",
    ),
]


@pytest.mark.parametrize(("change", "line"), BAD, ids=[line.split(":")[0] for _, line in BAD])
def test_bad_values_name_their_key(change: dict[str, Any], line: str) -> None:
    config = replace(GOOD, **change)
    for refuse in (validate_model, lambda config: make_model(config, 0)):
        with pytest.raises(ConfigError) as caught:
            refuse(config)
        assert str(caught.value).startswith(line)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LAYOUTS)
def test_good_values_are_allowed(name: str) -> None:
    for change in ({}, {"num_filters": 1}, {"ghost_batch_size": 1}, {"norm": "group"}):
        assert validate_model(replace(GOOD, name=name, **change)) is None


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ((2, 1, 30, 32), "image height=30: must be a multiple of 4 from 4 to 65536"),
        ((2, 1, 32, 30), "image width=30: must be a multiple of 4 from 4 to 65536"),
        ((2, 1, 1, 1), "image height=1: must be a multiple of 4 from 4 to 65536"),
        ((2, 1, 8, 0), "image width=0: must be a multiple of 4 from 4 to 65536"),
        (
            (2, 3, 32, 32),
            "model.in_channels=1: must be the number of channels of the images, 3",
        ),
        ((2, 32, 32), "images=[2, 32, 32]: must be [batch, channels, height, width]"),
    ],
    ids=str,
)
def test_images_that_do_not_fit(shape: tuple[int, ...], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_model(GOOD, 0)(torch.zeros(shape))
    assert str(caught.value) == line


def test_the_configuration_is_light_to_import() -> None:
    code = "import sys; import scaling.models.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
