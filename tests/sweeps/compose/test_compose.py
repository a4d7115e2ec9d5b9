"""Fast composition gives what Hydra composes, job for job."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict

from sweeps.compose.composer import Composer
from tests.sweeps.hydra_parts import jobs_of, multirun


def hydras_own(
    loader: ConfigLoader, master: DictConfig, overrides: list[str], number: int
) -> dict[str, Any]:
    config = loader.load_sweep_config(master, list(overrides))
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    HydraConfig.instance().set_config(config)
    content = OmegaConf.to_container(config, resolve=False)
    assert isinstance(content, dict)
    del content["hydra"]
    resolved = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def check_all(loader: ConfigLoader, master: DictConfig, jobs: list[list[str]]) -> None:
    composer = Composer(loader, master)
    for number, overrides in enumerate(jobs):
        job = composer.job(overrides, number)
        assert job.subdir == str(number)
        assert job.hydra.of_job["overrides"]["task"] == overrides
        assert job.content == hydras_own(loader, master, overrides, number)


@pytest.mark.long
def test_every_group_and_kind_of_value() -> None:
    jobs = [
        ["lr=0.1", "batch_size=4"],
        ["lr=0.2", "batch_size=8"],
        ["lr=1", "batch_size=8"],
        ["optimizer=adam", "lr=0.1"],
        ["optimizer=adam", "lr=0.2"],
        ["optimizer=adamw", "optimizer.weight_decay=0.5"],
        ["optimizer=adamw", "optimizer.weight_decay=0.25"],
        ["budget.max_examples=1000", "budget.max_steps=null"],
        ["budget.max_examples=null", "budget.max_steps=7"],
        ["targets=[0.1,0.2]", "seed=1"],
        ["study.name=one", "lr=0.3"],  # record_dir refers to it
        ["study.name=two", "lr=0.3"],
        ["lr=${divergence_factor}", "divergence_factor=1"],
        ["lr=${divergence_factor}", "divergence_factor=2"],
        ["targets=[0.3]", "seed=2"],
        ["task=finite_regression", "task.data_examples=3"],
        ["task=finite_regression", "task.data_examples=4"],
        ["schedule=cosine", "schedule.total_steps=50", "task.dimension=2"],
        ["study=linear_regression_grid", "lr=0.5"],
        ["lr=0.1", "batch_size=4"],
        ["schedule=cosine", "schedule.total_steps=${budget.max_steps}", "budget.max_steps=7"],
        ["schedule=cosine", "schedule.total_steps=${budget.max_steps}", "budget.max_steps=8"],
        ["tail_factor=${lr}", "lr=0.5"],
        ["tail_factor=${lr}", "lr=0.25"],
        ["study.question=${oc.env:HOME}", "lr=0.5"],
        ["study.question=${oc.env:HOME}", "lr=0.25"],
    ]
    with multirun() as (loader, master):
        check_all(loader, master, jobs)


def test_the_study() -> None:
    with multirun("study=linear_regression_grid") as (loader, master):
        jobs = jobs_of(master, ["study=linear_regression_grid"])
        assert len(jobs) == 13 * 16 * 8
        assert master.budget == {"max_steps": 24000, "max_examples": 500000}
        assert master.tail_factor == 3  # the study's, not the defaults
        check_all(loader, master, jobs[::97])


@pytest.mark.long
@settings(max_examples=5, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["lr", "task.label_noise", "tail_factor"]),
            st.floats(1e-6, 1e6),
            st.sampled_from(["sgd", "adam"]),
            st.integers(0, 10**6),
        ),
        min_size=2,
        max_size=4,
    )
)
def test_any_values(rows: list[tuple[str, float, str, int]]) -> None:
    jobs = [[f"{key}={x!r}", f"optimizer={name}", f"seed={n}"] for key, x, name, n in rows]
    with multirun() as (loader, master):
        check_all(loader, master, jobs)


@pytest.mark.parametrize("second", ["lr=abc", "batch_size=1.5", "seed="])
def test_types_are_checked_in_later_jobs_too(second: str) -> None:
    key = second.split("=")[0]
    with multirun() as (loader, master):
        composer = Composer(loader, master)
        composer.job([f"{key}=1"], 0)
        with pytest.raises(HydraException, match=f"Error merging override {second}"):
            composer.job([second], 1)


def test_jobs_do_not_leak_into_each_other() -> None:
    with multirun() as (loader, master):
        composer = Composer(loader, master)

        def content(*overrides: str) -> dict[str, Any]:
            return composer.job(overrides, 0).content

        assert content("optimizer.weight_decay=0.5")["optimizer"]["weight_decay"] == 0.5
        first = content("lr=0.5")
        assert first["optimizer"]["weight_decay"] == 0.0
        first["optimizer"]["weight_decay"] = 7.0
        first["relative_targets"].append(7.0)
        second = content("lr=0.25")
    assert second["optimizer"]["weight_decay"] == 0.0
    assert 7.0 not in second["relative_targets"]
