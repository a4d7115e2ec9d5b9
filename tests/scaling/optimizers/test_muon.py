"""Muon for matrices and AdamW for the rest: equal to torch's two, resumed, refused in one line."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scaling.config import BudgetConfig, TrialConfig
from scaling.limits import ConfigError
from scaling.optimizers.config import CustomOptimizerConfig
from scaling.optimizers.custom import TrialOptimizer, optimizer_content
from scaling.optimizers.custom_check import check_custom_optimizer
from tests.scaling.optimizers.test_custom_optimizer import custom_trial
from tests.scaling.trials import trained

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="requires torch 2.9")

PATH = "scaling.optimizers.muon.MuonAdamW"
SHAPES = {
    "token_embedding.weight": (11, 6),
    "blocks.0.qkv.weight": (18, 6),
    "blocks.0.norm.weight": (6,),
    "blocks.0.conv.weight": (3, 2, 2, 2),
    "blocks.1.up.weight": (24, 6),
    "head.weight": (11, 6),
}
HIDDEN = {"blocks.0.qkv.weight", "blocks.1.up.weight"}


def leaves(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in SHAPES.items()
    }


def config(**options: object) -> CustomOptimizerConfig:
    return CustomOptimizerConfig(path=PATH, options=options)


def test_it_is_torchs_muon_on_hidden_matrices_and_adamw_on_the_rest() -> None:
    options = {"momentum": 0.9, "weight_decay": 0.2, "adamw_lr_ratio": 0.3}
    mine = TrialOptimizer(config(**options, adamw_betas=[0.8, 0.95]), 0.05, leaves(0))
    params = {name: torch.nn.Parameter(leaf) for name, leaf in leaves(0).items()}
    muon = torch.optim.Muon(
        [params[name] for name in SHAPES if name in HIDDEN],
        lr=0.05,
        momentum=0.9,
        weight_decay=0.2,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        [params[name] for name in SHAPES if name not in HIDDEN],
        lr=0.3 * 0.05,
        betas=(0.8, 0.95),
        weight_decay=0.2,
    )
    stepped: dict[str, Tensor] = {}
    for step in range(1, 6):
        gradients = leaves(step)
        factor = 1 / step  # a schedule
        for name, param in params.items():
            param.grad = gradients[name].clone()
        for group in muon.param_groups:
            group["lr"] = 0.05 * factor
        for group in adamw.param_groups:
            group["lr"] = 0.3 * 0.05 * factor
        muon.step()
        adamw.step()
        stepped = mine.step(gradients, factor)
    for name, param in params.items():
        torch.testing.assert_close(stepped[name], param.detach(), rtol=0, atol=1e-9)


def test_hidden_updates_are_nearly_orthogonal_whatever_the_gradients_size() -> None:
    """Newton-Schulz by torch leaves singular values of about 0.7 to 1.2 (Jordan et al. 2024);
    `original` scales them by sqrt(max(1, rows / columns)), here 2."""
    options = {"weight_decay": 0.0, "adjust_lr": "original"}
    start = {name: torch.zeros_like(leaf) for name, leaf in leaves(0).items()}
    mine = TrialOptimizer(config(**options), 1.0, start)
    moved = mine.step({name: 1e-3 * leaf for name, leaf in leaves(1).items()}, None)
    values = torch.linalg.svdvals(moved["blocks.1.up.weight"]) / 2
    assert ((values > 0.6) & (values < 1.3)).all()


def test_resumed_bit_for_bit_and_cut_off_where_it_is_not() -> None:
    check_custom_optimizer(config(), 0.01, leaves(0))  # saves, resumes and compares
    uncut, cut = (TrialOptimizer(config(), 0.01, leaves(0)) for _ in range(2))
    after = leaves(0)
    for step in range(4):
        uncut.step(leaves(step), None)
        after = cut.step(leaves(step), None)
    resumed = TrialOptimizer(config(), 0.01, leaves(0))
    resumed.restore(cut.saved(), after)
    fresh = TrialOptimizer(config(), 0.01, after)
    expected, same, other = (one.step(leaves(9), None) for one in (uncut, resumed, fresh))
    assert all(torch.equal(expected[name], same[name]) for name in SHAPES)
    assert not any(torch.equal(expected[name], other[name]) for name in SHAPES)


def test_its_trials_do_not_depend_on_where_the_package_is_installed() -> None:
    assert optimizer_content(config()) == ""


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"adamw_names": "."}, "no matrix is left for Muon"),
        ({"adamw_names": "("}, "unterminated subpattern"),
        ({"adjust_lr": "mine"}, "mine is not supported"),
        ({"beta": 1}, "takes adamw_betas, adamw_lr_ratio, adamw_names"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, object], refusal: str) -> None:
    with pytest.raises(ConfigError, match=refusal) as error:
        check_custom_optimizer(config(**options), 0.01, leaves(0))
    assert "\n" not in str(error.value)


def test_older_torch_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match=r"Muon requires torch 2\.9 or newer"):
        check_custom_optimizer(config(), 0.01, leaves(0))


def test_a_network_of_somebodys_trains_with_it() -> None:
    trial: TrialConfig = replace(
        custom_trial(PATH, "Lines"), budget=BudgetConfig(max_steps=40), lr=0.2
    )
    memory, _ = trained(replace(trial, optimizer=config(weight_decay=0.0)))
    assert memory.curves[0][-1][1] < 0.5 * memory.curves[0][0][1]
