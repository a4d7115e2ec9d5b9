"""The table of a network equals forms derived by hand, and published totals."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.models.colourization import make_model
from scaling.models.config import KERNEL_SIZES, LAYOUTS, NORMS, ColourizationModelConfig
from scaling.models.counts import (
    connections_formula,
    layer_counts,
    main,
    outputs_formula,
    parameters_formula,
    total_counts,
    weights_formula,
)

POOL = ColourizationModelConfig("pool_upsample")


@pytest.mark.parametrize(
    ("kernel_size", "plain", "unet"),
    [(3, 49_728, 56_856), (4, 88_032, 100_704), (5, 137_280, 157_080)],
)
def test_parameters_of_the_reference_networks(kernel_size: int, plain: int, unet: int) -> None:
    for name in LAYOUTS:
        config = replace(POOL, name=name, kernel_size=kernel_size)
        expected = unet if name == "unet" else plain
        model = make_model(config, 0)
        assert sum(leaf.numel() for leaf in model.parameters()) == expected
        assert total_counts(config, 32).parameters == expected
        assert parameters_formula(config) == expected


def test_pool_upsample_at_32_by_the_published_form() -> None:
    filters, colours = 32, 24
    total = total_counts(POOL, 32)
    assert total.connections == 13_352_960
    assert total.outputs == 2240 * filters + 2304 * colours
    assert total.weights == 9 * (filters + 4 * filters**2 + filters * colours + colours**2)
    assert connections_formula(POOL, 32) == 13_352_960


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
@pytest.mark.parametrize("norm", NORMS)
def test_closed_forms_are_the_table(name: str, kernel_size: int, norm: str) -> None:
    for filters, colours, channels in ((32, 24, 1), (8, 5, 3)):
        config = ColourizationModelConfig(name, kernel_size, channels, filters, colours, norm)
        for side in (32, 64):
            total = total_counts(config, side)
            assert total.weights == weights_formula(config)
            assert total.parameters == parameters_formula(config)
            assert total.outputs == outputs_formula(config, side)
            assert total.connections == connections_formula(config, side)


@given(
    st.sampled_from(sorted(LAYOUTS)),
    st.sampled_from(KERNEL_SIZES),
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(2, 40),
    st.integers(1, 12),
)
@settings(max_examples=30, deadline=None)
def test_closed_forms_hold_for_any_size(
    name: str, kernel_size: int, channels: int, filters: int, colours: int, quarter: int
) -> None:
    config = ColourizationModelConfig(name, kernel_size, channels, filters, colours)
    total = total_counts(config, 4 * quarter)
    assert total.parameters == parameters_formula(config)
    assert total.outputs == outputs_formula(config, 4 * quarter)
    assert total.connections == connections_formula(config, 4 * quarter)


@pytest.mark.parametrize("name", LAYOUTS)
def test_twice_the_side_is_four_times_the_work(name: str) -> None:
    at_32, at_64 = (total_counts(replace(POOL, name=name), side) for side in (32, 64))
    assert at_64.parameters == at_32.parameters
    assert at_64.outputs == 4 * at_32.outputs
    assert at_64.connections == 4 * at_32.connections


def test_layers_of_pool_upsample() -> None:
    rows = {row.layer: row for row in layer_counts(replace(POOL, norm="none"), 32)}
    assert list(rows) == [
        *("block1.conv", "block1.pool", "block2.conv", "block2.pool"),
        *("block3.conv", "block3.upsample", "block4.conv", "block4.upsample", "block5"),
    ]
    assert rows["block2.conv"].connections == 16 * 16 * 9 * 32 * 64
    assert rows["block2.pool"].connections == 4 * 8 * 8 * 64
    assert rows["block4.upsample"].connections == rows["block4.upsample"].outputs == 24 * 32 * 32
    assert rows["block5"].shape == (24, 32, 32)


def test_counting_draws_nothing() -> None:
    before = torch.get_rng_state()
    layer_counts(POOL, 32)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_command_prints_totals(capsys: pytest.CaptureFixture[str]) -> None:
    main(["unet", "--kernel-size", "4", "--num-filters", "32", "--side", "64"])
    lines = capsys.readouterr().out.splitlines()
    total = total_counts(replace(POOL, name="unet", kernel_size=4), 64)
    words = next(line for line in lines if line.startswith("total")).split()
    assert words[1] == "24x64x64"
    numbers = [int(word.replace(",", "")) for word in words[2:]]
    assert numbers == [
        *(total.weights, total.biases, total.norm_parameters, total.outputs, total.connections)
    ]
    assert lines[-1] == "100,704 parameters"
    edges = [[one.end() for one in re.finditer(r"\S+", line)] for line in lines if "conv" in line]
    assert len({ends[-1] for ends in edges}) == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["resnet"], "model.name=resnet: must be one of pool_upsample"),
        (["unet", "--kernel-size", "2"], "model.kernel_size=2: must be one of 3, 4, 5"),
        (["unet", "--num-filters", "0"], "model.num_filters=0: must be a whole number from 1"),
        (["unet", "--side", "30"], "side=30: must be a multiple of 4"),
        (["unet", "--side", "0"], "side=0: must be a multiple of 4"),
        (["unet", "--side", "x"], "argument --side: invalid int value"),
        ([], "the following arguments are required: name"),
        (["unet", "--depth", "3"], "unrecognized arguments: --depth 3"),
    ],
)
def test_what_cannot_be_counted_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1


@pytest.mark.long
def test_the_command_as_it_is_typed() -> None:
    command = [sys.executable, "-m", "scaling.models.counts", "pool_upsample"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "49,728 parameters" in done.stdout
    assert "13,352,960" in done.stdout
