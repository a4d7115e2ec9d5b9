"""Data read batch by batch: equal to a plain loop, to arrays in memory, to itself after a stop."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from scaling.config import BudgetConfig, NoiseScaleConfig, TrialConfig
from scaling.custom_code import first_line
from scaling.draws import READING, seed_draws
from scaling.limits import ConfigError
from scaling.tasks.content import data_digest
from scaling.tasks.make import make_task
from scaling.tasks.supervised import SupervisedTask
from scaling.train import train
from scaling.trial import prepare
from tests.scaling import read_problems
from tests.scaling.record.test_checkpoint import go_on, stop_at
from tests.scaling.trials import Memory, custom, regression_trial, trained


def reading(problem: str, options: dict[str, Any] | None = None, **fields: Any) -> TrialConfig:
    config = custom(problem="Custom", options=options or {}, **fields)
    path = f"tests.scaling.read_problems.{problem}"
    return replace(config, task=replace(config.task, path=path))


def curve(config: TrialConfig) -> list[Any]:
    return trained(config)[0].curves[0]


def peak_memory() -> int:
    """Bytes, since it was last asked for."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    read_problems.Mapped.write(tmp_path)
    tokens = np.random.default_rng(0).integers(0, 4, 1000).cumsum() % 16
    tokens.astype(np.uint16).tofile(tmp_path / "tokens.bin")
    return tmp_path


def test_the_same_examples_wherever_they_lie_give_the_same_bits(folder: Path) -> None:
    expected = curve(reading("Arrays", seed=2))
    assert curve(reading("Batches", seed=2)) == expected
    assert curve(reading("HeldOutBatches", seed=2)) == expected
    assert curve(reading("Mapped", {"folder": str(folder)}, seed=2)) == expected


def test_a_token_file_equals_a_plain_loop(folder: Path) -> None:
    options = {"path": str(folder / "tokens.bin")}
    config = reading("TokenFile", options, seed=3, precision="float64")
    losses = [row[2] for row in curve(config)[1:21]]
    problem = read_problems.TokenFile(**options)
    torch.manual_seed(3)
    model = problem.model().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    words = np.random.SeedSequence([3, 8]).generate_state(2, np.uint32)
    generator = torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
    every = torch.randint(problem.n_train, (16, 8), generator=generator)
    every = torch.cat([every, torch.randint(problem.n_train, (32, 8), generator=generator)])
    plain = []
    for begins in every[:20]:
        rows = begins[:, None] + torch.arange(read_problems.LENGTH + 1)
        window = torch.as_tensor(problem.tokens.astype(np.int64))[rows]
        optimizer.zero_grad()
        logits = model(window[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        plain.append(loss.item())
    assert losses == pytest.approx(plain, rel=1e-9)


def test_a_dataset_equals_a_plain_loop_over_a_dataloader() -> None:
    """torch's own DataLoader gives the batches; the seeds of its draws are ours."""
    config = reading("Transformed", seed=1, precision="float64")
    losses = [row[2] for row in curve(config)[1:13]]
    problem = read_problems.Transformed()
    task = make_task(config)
    assert isinstance(task, SupervisedTask)
    streams: Any = task.streams([1], 8)
    streams.next()
    steps = [(step[0][0].tolist(), int(step[1][0])) for step in streams._steps[:12]]
    torch.manual_seed(1)
    model = problem.model().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    plain = []
    for rows, key in steps:
        seed_draws(READING, key)
        [(inputs, labels)] = DataLoader(
            problem.train, batch_sampler=[rows], generator=torch.Generator()
        )
        optimizer.zero_grad()
        loss = problem.loss(model(inputs.double()), labels)
        loss.backward()
        optimizer.step()
        plain.append(loss.item())
    assert losses == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("problem", ["Batches", "Transformed", "Normalized"])
def test_a_stack_equals_its_trials_alone(problem: str) -> None:
    options = {"noise": 0.3} if problem == "Batches" else {}
    configs = [
        reading(problem, options, seed=seed, lr=lr, stack_networks="true", precision="float64")
        for seed, lr in ((0, 0.05), (0, 0.2), (1, 0.05))
    ]
    assert prepare(configs)[0].most_rows is None
    together = trained(*configs)[0].curves
    for number, config in enumerate(configs):
        alone = np.array(curve(config)[1:], dtype=float)[:, 1:3]
        rows = np.array(together[number][1:], dtype=float)[:, 1:3]
        np.testing.assert_allclose(rows, alone, rtol=1e-9)


@pytest.mark.parametrize("step", [1, 16, 21])
@pytest.mark.parametrize("problem", ["Batches", "Transformed"])
def test_resumed_equals_uninterrupted(problem: str, step: int, tmp_path: Path) -> None:
    options = {"noise": 0.3} if problem == "Batches" else {}
    trials = prepare([reading(problem, options)])
    whole = Memory()
    train(trials, whole)
    merged, _ = go_on(trials, stop_at(step, trials, tmp_path))
    assert merged.curves == whole.curves


def test_augmentation_differs_from_step_to_step_and_is_that_of_every_lr() -> None:
    task: Any = make_task(reading("Batches", {"noise": 0.3}))
    stream, again = task.streams([0, 1], 8), task.streams([1], 8)
    batches = [stream.next() for _ in range(20)]
    alone = [again.next() for _ in range(20)]
    for (inputs, _), (own, _) in zip(batches, alone, strict=True):
        assert torch.equal(inputs[1], own[0])
    assert len({float(inputs.sum()) for inputs, _ in batches}) == 20


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_worker_processes_change_no_bit(library: str, tmp_path: Path) -> None:
    config = reading("Transformed", {"library": library}, seed=4)
    expected = curve(config)
    workers = replace(config, data_workers=2)
    assert curve(workers) == expected
    assert not multiprocessing.active_children()  # they end with the trial
    trials = prepare([workers])
    assert trials[0].trial_id == prepare([config])[0].trial_id
    merged, _ = go_on(trials, stop_at(21, trials, tmp_path))
    assert merged.curves[0] == expected


@pytest.mark.parametrize("data_workers", [0, 2])
def test_what_a_read_raises_is_said_with_its_place(data_workers: int) -> None:
    with pytest.raises((ValueError, RuntimeError)) as raised:
        trained(reading("Broken", data_workers=data_workers))
    line = first_line(raised.value)
    assert "ValueError: example 77 is damaged (" in line
    assert "read_problems.py, line " in line
    raised.value.__traceback__ = None
    del raised
    gc.collect()
    assert not multiprocessing.active_children()


def test_workers_go_on_with_fewer_streams() -> None:
    """A trial that ends early takes its stream along, in the middle of what is read ahead."""
    configs = [
        reading("Batches", {"noise": 0.3}, seed=seed, lr=lr, stack_networks="true", data_workers=2)
        for seed, lr in ((0, 1e6), (1, 0.05), (2, 0.05))
    ]
    configs = [replace(config, divergence_factor=2.0) for config in configs]
    together = trained(*configs)[0].curves
    assert len(together[0]) < len(together[1])
    for number in (1, 2):
        alone = curve(replace(configs[number], data_workers=0, stack_networks="false"))
        np.testing.assert_allclose(
            [row[1] for row in together[number]], [row[1] for row in alone], rtol=1e-4
        )


def test_micro_batches_have_the_gradient_of_the_batch() -> None:
    config = reading("Transformed", precision="float64", batch_size=16)
    rows = [curve(replace(config, micro_batch_size=size)) for size in (None, 5)]
    np.testing.assert_allclose(*(np.array(r[1:], dtype=float)[:, 1:3] for r in rows), rtol=1e-9)


def test_the_noise_scale_is_that_of_arrays() -> None:
    noise = NoiseScaleConfig(measure="both", interval_steps=2, examples=16)
    measured = [
        trained(reading(problem, noise_scale=noise))[0].metrics[0]
        for problem in ("Arrays", "Batches")
    ]
    assert measured[0] == measured[1]
    assert any("noise_scale/parts/simple" in metrics for metrics in measured[0].values())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells it")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_memory_map_is_not_read_into_memory(mode: Any, tmp_path: Path) -> None:
    """Not for its digest, which goes through all of it, and not for training on some of it."""
    n_bytes = 2**27
    whole = np.memmap(tmp_path / "inputs.bin", np.float32, "w+", shape=(n_bytes // 16, 4))
    inputs = np.memmap(tmp_path / "inputs.bin", np.float32, mode, shape=whole.shape)
    del whole
    problem: Any = read_problems.Classes()
    problem.content_hash = None
    problem.train = (inputs[1:], np.broadcast_to(np.int64(0), len(inputs) - 1))
    trained(reading("Arrays", budget=BudgetConfig(max_steps=1)))  # what is loaded once
    peak_memory()
    before = peak_memory()
    task = SupervisedTask(problem, reading("Arrays"))
    assert len(task.data_hash) == 16
    params, streams = task.initial_params([0]), task.streams([0], 8)
    for _ in range(10):
        task.losses_and_gradients(params, streams.next())
    assert peak_memory() - before < n_bytes / 3


def test_the_digest_of_a_memory_map_is_that_of_the_array(folder: Path) -> None:
    task = SupervisedTask(read_problems.Mapped(str(folder)), reading("Arrays"))
    problem: Any = read_problems.Mapped(str(folder))
    problem.content_hash = None
    mapped = data_digest(problem)
    problem.train = tuple(np.array(leaf) for leaf in problem.train)
    assert data_digest(problem) == mapped != task.data_hash == "classes"
    digest = hashlib.sha256()
    for leaf in (*problem.train, *problem.held_out):  # the rule that recorded trials have
        digest.update(f"{leaf.dtype} {leaf.shape}\n".encode() + leaf.tobytes())
    assert mapped == digest.hexdigest()[:16]


def test_the_text_of_the_readme_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = Path(__file__).parents[3] / "scaling" / "README.md"
    [code] = re.findall(r"in `text.py`:\n\n```python\n(.*?)```", readme.read_text(), re.DOTALL)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names: dict[str, Any] = {"__name__": "text"}
    exec(code, names)
    problem = names["Text"](readme)
    first, last = problem.held_out_batch(torch.tensor([0, problem.n_held_out - 1]))[1]
    [trained_on] = problem.batch(torch.tensor([problem.n_train - 1]), None)[1]
    text = readme.read_bytes()
    ends, begins = (text.index(bytes(one.astype(np.uint8))) for one in (trained_on, first))
    assert ends + 64 <= problem.n_train + 65 <= begins
    assert bytes(last.astype(np.uint8)) in text[-150:]
    task = SupervisedTask(problem, reading("Arrays", lr=1.0))
    params, streams = task.initial_params([0]), task.streams([0], 32)
    before = float(task.held_out_metrics(params)["loss"][0])
    for _ in range(30):
        gradients = task.losses_and_gradients(params, streams.next())[1]
        params["weights"] = params["weights"] - 1.0 * gradients["weights"]
    assert float(task.held_out_metrics(params)["loss"][0]) < before - 1
    assert task.facts["unit"] == "bytes"


def test_a_task_that_reads_nothing_has_no_workers() -> None:
    with pytest.raises(ConfigError, match="data_workers=2: linear_regression draws its data where"):
        prepare([regression_trial(data_workers=2)])
