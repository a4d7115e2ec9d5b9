"""Stopped anywhere and resumed, a stack trains the bits that it would have trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scaling.config import BudgetConfig, ScheduleConfig, TrialConfig
from scaling.record.checkpoint import (
    CheckpointError,
    read_checkpoint,
    read_header,
    read_headers,
    tidy,
    write_checkpoint,
)
from scaling.recorder import Begin, TrainState
from scaling.tasks.config import LinearRegressionConfig
from scaling.train import train
from scaling.trial import Trial, prepare
from tests.scaling.trials import Memory, finite_task, optimizer_config, regression_trial

GRID = [
    replace(regression_trial(max_steps=70, batch_size=4, relative_targets=[0.3]), lr=lr, seed=seed)
    for lr in (0.01, 0.1, 0.2, 40.0)
    for seed in (0, 1, 2)
]


class Stopped(Exception):
    pass


class StopsAt(Memory):
    """Saves before the step that follows `step`, in a file, and stops."""

    def __init__(self, step: int, folder: Path, trials: Sequence[Trial]) -> None:
        super().__init__()
        self.at, self.folder, self.trials = step, folder, trials
        self.asked = 0
        self.path = Path()

    def wants_state(self) -> bool:
        self.asked += 1
        return self.asked == self.at + 1

    def state(self, state: TrainState) -> None:
        trial_ids = [self.trials[number].trial_id for number in state.stack["numbers"]]
        self.path = write_checkpoint(self.folder, trial_ids, state)
        raise Stopped


def stop_at(step: int, trials: Sequence[Trial], folder: Path) -> StopsAt:
    recorder = StopsAt(step, folder, trials)
    with pytest.raises(Stopped):
        train(trials, recorder)
    return recorder


def go_on(
    trials: Sequence[Trial], stopped: StopsAt, chosen: Sequence[int] | None = None
) -> tuple[Memory, dict[int, object]]:
    """Train the rest (of the trials `chosen`); all by the trials' first numbers.

    Curves are whole, pictures and metrics those of the rest.
    """
    header, state = read_checkpoint(stopped.path)
    saved = [n for n, trial in enumerate(trials) if trial.trial_id in header.trial_ids]
    numbers = [n for n in saved if chosen is None or n in chosen]
    rows = [header.trial_ids.index(trials[n].trial_id) for n in numbers]
    known = [[row for row in stopped.curves[n] if row[0] <= state.step] for n in numbers]
    curves = [([row[0] for row in curve], [row[1] for row in curve]) for curve in known]
    memory = Memory()
    results = train([trials[n] for n in numbers], memory, Begin(state, rows, curves))
    merged = Memory()
    for position, number in enumerate(numbers):
        merged.curves[number] = stopped.curves[number] + memory.curves.get(position, [])
        merged.pictures[number] = memory.pictures.get(position, {})
        merged.metrics[number] = memory.metrics.get(position, {})
    return merged, dict(zip(numbers, results, strict=True))


def assert_same(
    trials: Sequence[Trial], step: int, folder: Path, chosen: Sequence[int] | None = None
) -> None:
    whole = Memory()
    expected = train(trials, whole)
    stopped = stop_at(step, trials, folder)
    merged, results = go_on(trials, stopped, chosen)
    assert results
    for number, result in results.items():
        assert merged.curves[number] == whole.curves[number]
        untimed = {"seconds": 0.0, "step_seconds": None}
        assert replace(result, **untimed) == replace(expected[number], **untimed)  # pyright: ignore


SCHEDULES = [
    ScheduleConfig(),
    ScheduleConfig("cosine", 5, 60),
    ScheduleConfig("linear", warmup_examples=70, total_fraction=0.9),
    ScheduleConfig("wsd", warmup_steps=5, decay_fraction=0.5, total_fraction=1.0),
]


@pytest.mark.parametrize("step", range(0, 66, 3))
def test_stopped_at_any_step(step: int, tmp_path: Path) -> None:
    assert_same(prepare(GRID), step, tmp_path)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize(
    "task",
    [
        LinearRegressionConfig(dimension=64),
        finite_task(),
        finite_task(sampling="without_replacement"),
    ],
    ids=["streaming", "finite", "without replacement"],
)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_whatever_is_trained(optimizer: str, task, schedule: ScheduleConfig, tmp_path) -> None:
    config = replace(
        GRID[0], task=task, optimizer=optimizer_config(optimizer), schedule=schedule, lr=0.05
    )
    config = replace(config, relative_targets=[])
    trials = prepare([config, replace(config, seed=3), replace(config, lr=0.02)])
    assert_same(trials, 37, tmp_path)


@pytest.mark.parametrize("chosen", [[0], [4, 1], [6, 7, 8, 0]])
def test_some_trials_of_a_stack(chosen: list[int], tmp_path: Path) -> None:
    assert_same(prepare(GRID), 25, tmp_path, chosen)


@pytest.mark.parametrize("task", [LinearRegressionConfig(dimension=16), finite_task()])
def test_capped_trials_of_a_search_go_on_from_their_caps(task) -> None:
    """Trials of one stack with other caps; one that ends by itself leaves no state."""
    configs = [
        replace(GRID[0], task=task, lr=lr, seed=seed, budget=BudgetConfig(24), tail_factor=1.0)
        for lr, seed in ((0.01, 0), (0.02, 0), (0.01, 1), (0.2, 1))
    ]
    configs[3] = replace(configs[3], targets=[1.0], relative_targets=[0.9])
    whole = Memory()
    expected = train(prepare(configs), whole)
    assert not whole.states  # only a search asks for more
    caps = [8, 8, 12, 24]
    short = [replace(t, cap=cap) for t, cap in zip(prepare(configs), caps, strict=True)]
    first = Memory()
    train(short, first)
    assert [state.stack["numbers"] for state in first.states] == [[0, 1], [2]]
    for state in first.states:
        numbers = state.stack["numbers"]
        known = [first.curves[number] for number in numbers]
        curves = [([row[0] for row in curve], [row[1] for row in curve]) for curve in known]
        rest, trials = Memory(), [replace(t, cap=None) for t in (short[n] for n in numbers)]
        results = train(trials, rest, Begin(state, range(len(numbers)), curves))
        for position, number in enumerate(numbers):
            assert first.curves[number] + rest.curves[position] == whole.curves[number]
            found = replace(results[position], seconds=0.0)  # pyright: ignore
            assert found == replace(expected[number], seconds=0.0)  # pyright: ignore


def test_after_a_stream_was_left(tmp_path: Path) -> None:
    """The first seed's trials have ended; the block of data is still that of all seeds."""
    ended = [replace(c, budget=BudgetConfig(8 if c.seed == 0 else 70)) for c in GRID]
    assert_same(prepare(ended), 11, tmp_path)


@pytest.mark.parametrize(
    ("dimension", "batch_size"), [(4000, 20), (16, 6000)], ids=["blocks of one step", "factored"]
)
def test_alone_at_a_large_batch_size(dimension: int, batch_size: int, tmp_path: Path) -> None:
    task = LinearRegressionConfig(dimension=dimension)
    config = replace(GRID[0], task=task, batch_size=batch_size)
    assert_same(prepare([config]), 8, tmp_path)


def test_a_longer_request_goes_on(tmp_path: Path) -> None:
    short = prepare([replace(c, relative_targets=[]) for c in GRID[:3]])
    longer = prepare([replace(trial.config, budget=BudgetConfig(140)) for trial in short])
    whole = Memory()
    train(longer, whole)
    merged, _ = go_on(longer, stop_at(60, short, tmp_path))
    assert merged.curves == whole.curves


def saved_file(folder: Path, step: int = 20) -> Path:
    return stop_at(step, prepare(GRID[:3]), folder).path


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.99])
def test_a_flipped_bit_is_noticed(part: float, tmp_path: Path) -> None:
    path = saved_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[int(part * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_file_is_noticed(part: float, tmp_path: Path) -> None:
    path = saved_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_another_format_is_named(tmp_path: Path) -> None:
    path = saved_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"checkpoint 2 ", b"checkpoint 7 ", 1))
    with pytest.raises(CheckpointError, match="checkpoint format 7, this version reads 2"):
        read_header(path)
    headers, [line] = read_headers(tmp_path)
    assert headers == []
    assert "format 7" in line
    assert not path.exists()
    assert path.with_suffix(".refused").exists()  # kept, out of the way


def test_a_file_that_goes_while_it_is_looked_at(tmp_path: Path) -> None:
    path = saved_file(tmp_path)
    (tmp_path / "gone-000000000010.ckpt").symlink_to(tmp_path / "nowhere")
    headers, refused = read_headers(tmp_path)
    assert [header.path for header in headers] == [path]
    assert refused == []


def test_content_is_data_only(tmp_path: Path) -> None:
    path = saved_file(tmp_path)
    _, state = read_checkpoint(path)
    harmful = replace(state, stack={"numbers": [0], "params": torch.nn.Linear(1, 1)})
    path = write_checkpoint(tmp_path, ["x"], harmful)
    with pytest.raises(CheckpointError, match="is not in a format"):
        read_checkpoint(path)


def test_tidy_keeps_two_of_each_trial(tmp_path: Path) -> None:
    paths = [saved_file(tmp_path, step) for step in (10, 20, 30)]
    other = stop_at(5, prepare([replace(GRID[0], seed=9)]), tmp_path).path
    (tmp_path / ".x.ckpt.abc.tmp").write_bytes(b"left by a killed process")
    tidy(tmp_path, read_headers(tmp_path)[0])
    assert sorted(tmp_path.iterdir()) == sorted([*paths[1:], other])


def test_config_of_a_checkpoint_is_no_part_of_identity() -> None:
    config: TrialConfig = GRID[0]
    other = replace(config, checkpoint=replace(config.checkpoint, interval_seconds=1.0))
    assert prepare([config])[0].trial_id == prepare([other])[0].trial_id
