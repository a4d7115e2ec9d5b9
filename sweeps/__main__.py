"""Train trials: `python -m sweeps batch_size=64`, `python -m sweeps -m study=linear_regression`."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from sweeps import config_schema
from sweeps.messages import one_line_errors, one_line_interruption
from sweeps.study_files import refuse_nameless_choices, refuse_other_task

config_schema.register()


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")
def job(config: DictConfig) -> float:
    """Train one trial. Multiruns go through the launcher, which calls this only if it is basic."""
    from sweeps.launch import run_single

    return run_single(config)


def main() -> None:
    """The console script."""
    with one_line_interruption():
        with one_line_errors():
            refuse_nameless_choices(sys.argv[1:])
            refuse_other_task(sys.argv[1:])
        job()


if __name__ == "__main__":
    main()
