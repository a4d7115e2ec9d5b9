"""The language model as a task: a plain torch loop's numbers, stacks, resuming, pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from scaling.config import BudgetConfig, NoiseScaleConfig, TrialConfig
from scaling.data.config import PhotosConfig, TextConfig
from scaling.limits import ConfigError
from scaling.models.config import ColourizationModelConfig, TransformerConfig
from scaling.models.transformer import Transformer, multiply_adds
from scaling.tasks.config import LanguageModelConfig
from scaling.tasks.language_model import SAMPLES, WRITTEN, LanguageModel
from scaling.tasks.make import make_task
from scaling.tasks.supervised import SupervisedTask
from scaling.tasks.text_picture import COLUMNS, ROWS, draw_samples, laid_out
from scaling.trial import prepare
from tests.scaling.record.test_checkpoint import assert_same
from tests.scaling.trials import Memory, optimizer_config, trained

MODEL = TransformerConfig(depth=1, width=8, heads=2)


@pytest.fixture
def text(tmp_path: Path) -> TextConfig:
    path = tmp_path / "counting.txt"
    path.write_text("".join(f"{i} and {i + 1} are {2 * i + 1}.\n" for i in range(200)))
    return TextConfig(path=str(path), sequence_length=6, vocabulary_size=20)


def trial(text: TextConfig, **fields: Any) -> TrialConfig:
    fields = {"budget": BudgetConfig(max_steps=8), "lr": 0.01, "batch_size": 4} | fields
    return TrialConfig(
        task=LanguageModelConfig(),
        model=fields.pop("model", MODEL),
        data=text,
        optimizer=optimizer_config("adamw", weight_decay=0.1, beta2=0.95),
        targets=[1.0],
        device="cpu",
        **fields,
    )


def test_it_trains_as_a_plain_loop(text: TextConfig) -> None:
    """The same batches through torch.optim.AdamW and torch's clipping, in float64."""
    config = trial(text, precision="float64", clip_norm=0.5)
    memory, _ = trained(config)
    problem = LanguageModel(config)
    torch.manual_seed(0)
    network = Transformer(MODEL, **problem.sizes).double()
    optimizer = torch.optim.AdamW(network.parameters(), 0.01, (0.9, 0.95), weight_decay=0.1)
    [inputs, targets], held_out = map(torch.as_tensor, problem.train), problem.held_out
    stream = make_task(config).streams([0], 4)
    losses = []
    for _ in range(8):
        rows = stream.next()[0][0]
        optimizer.zero_grad()
        logits = network(inputs[rows]).flatten(0, 1)
        loss = functional.cross_entropy(logits, targets[rows].flatten().long())
        loss.backward()
        losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
    with torch.no_grad():
        logits = network(torch.as_tensor(held_out[0])).flatten(0, 1)
        loss = functional.cross_entropy(logits, torch.as_tensor(held_out[1]).flatten().long())
    curve = memory.curves[0]  # evaluated at every step
    assert [train_loss for _, _, train_loss, _ in curve[1:]] == pytest.approx(losses, abs=1e-9)
    assert curve[-1][1] == pytest.approx(loss.item(), rel=1e-7)  # kept in float32


def test_in_a_stack_as_alone(text: TextConfig) -> None:
    both = [trial(text, lr=lr, stack_networks="true", precision="float64") for lr in (0.01, 0.03)]
    together, _ = trained(*both)
    for number, config in enumerate(both):
        alone, _ = trained(replace(config, stack_networks="false"))
        losses = [[row[1] for row in curve] for curve in (together.curves[number], alone.curves[0])]
        np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=1e-9)


def test_resumed_bit_for_bit(text: TextConfig, tmp_path: Path) -> None:
    assert_same(prepare([trial(text)]), 5, tmp_path)


def test_the_noise_scale_takes_single_sequences(text: TextConfig) -> None:
    noise = NoiseScaleConfig(measure="examples", examples=8)
    memory, _ = trained(trial(text, noise_scale=noise, budget=BudgetConfig(max_steps=3)))
    measured = memory.metrics[0][3]
    assert any(key.startswith("noise_scale/examples") for key in measured)


def test_what_it_says_of_itself(text: TextConfig) -> None:
    task = make_task(trial(text))
    assert isinstance(task, SupervisedTask)
    problem = task.problem
    assert (problem.example, problem.unit, problem.units_per_example) == ("sequence", "tokens", 6)  # pyright: ignore
    assert task.model_size == 12 * 8**2 + 2 * 8 + 8
    signs = set("0123456789 and are.\n")
    n_tokens = len(signs) + 1  # and the one for all others
    assert task.facts["vocabulary"] == n_tokens
    assert task.facts["connections"] == multiply_adds(MODEL, n_tokens, 6)
    assert task.facts["parameters"] == task.model_size + (n_tokens + 6) * 8
    assert task.facts["train_examples"] == len(problem.train[0])


def test_its_content_is_a_part_of_its_trials(text: TextConfig) -> None:
    assert text.path is not None
    [before] = prepare([trial(text)])
    Path(text.path).write_text(Path(text.path).read_text().replace("and", "und"))
    from scaling.tasks.language_model import _text

    _text.cache_clear()  # another process
    [after] = prepare([trial(text)])
    assert before.trial_id != after.trial_id


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"model": ColourizationModelConfig(name="unet")}, "the task language_model takes transf"),
        ({"model": None}, "the task language_model requires a model and data"),
        ({"model": replace(MODEL, heads=3)}, "model.heads=3: must divide model.width=8"),
    ],
)
def test_what_does_not_fit_is_one_line(
    text: TextConfig, fields: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(ConfigError, match=refusal):
        prepare([trial(text, **fields)])
    with pytest.raises(ConfigError, match="data=photos: the task language_model takes text"):
        prepare([replace(trial(text), data=PhotosConfig())])


def pictures(text: TextConfig) -> np.ndarray:
    torch.manual_seed(5)
    memory: Memory = trained(trial(text, picture_ratio=100.0))[0]
    return memory.pictures[0][8]


def test_its_picture_is_text_that_it_wrote(text: TextConfig) -> None:
    picture = pictures(text)
    assert picture.dtype == np.uint8
    assert (picture == pictures(text)).all()
    colours = {tuple(colour) for colour in picture.reshape(-1, 3)[::7].tolist()}
    assert (255, 255, 255) in colours
    assert len(colours) > 10


def test_it_writes_what_it_knows(text: TextConfig) -> None:
    """A network whose every next token is certain writes these and nothing else."""
    problem = LanguageModel(trial(text))
    inputs = torch.as_tensor(problem.held_out[0][:8])
    n_tokens = problem.sizes["vocabulary_size"]

    def counting(tokens: torch.Tensor) -> torch.Tensor:
        return functional.one_hot((tokens + 1) % 10, n_tokens).double() * 1000

    samples = problem.sample(counting, inputs)
    assert samples.shape == (SAMPLES, 6 + WRITTEN)
    assert torch.equal(samples[:, :6], inputs[:SAMPLES].long())
    assert torch.equal(samples[:, 6:], (samples[:, 5:-1] + 1) % 10)
    broken = problem.sample(lambda tokens: counting(tokens) * torch.nan, inputs)
    assert (broken < n_tokens - 1).all()


def test_lines_break_and_given_text_makes_room() -> None:
    places = list(laid_out("ab\nc", "d" * (COLUMNS + 3)))
    assert places[:3] == [(0, 0, "a", True), (0, 1, "b", True), (1, 0, "c", True)]
    assert places[3] == (1, 1, "d", False)
    assert places[-1] == (2, 3, "d", False)
    long = list(laid_out("x\n" * 30 + "y", "z\n" * 9))
    assert max(row for row, *_ in long) == ROWS - 1
    assert [sign for _, _, sign, _ in long] == ["x", "y", "z", *"z" * (ROWS - 2)]
    same = {draw_samples([(a, "c")] * 2).shape for a in ("", "ab\n", "é" * 300)}
    assert len(same) == 1
