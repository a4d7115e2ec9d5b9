"""Train trials: `sweep batch_size=64`, `sweep -m study=linear_regression`."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import warnings
from typing import Any

import hydra
from omegaconf import DictConfig

from scaling.addresses import without_password
from scaling.commands import exit_with_version
from sweeps.command_line.messages import one_line_errors, one_line_interruption, one_line_warning
from sweeps.compose import hydra_schema

hydra_schema.register()


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")
def job(config: DictConfig) -> float:
    """Train one trial. Multiruns go through the launcher, which calls this only if it is basic."""
    from sweeps.compose.launch import run_single

    return run_single(config)


def main() -> None:
    exit_with_version(sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints its errors itself, in many lines
    warnings.showwarning = one_line_warning
    logging.setLogRecordFactory(_record_without_passwords)
    with one_line_interruption():
        from sweeps.run.made_folders import unmade_if_refused

        with unmade_if_refused(), one_line_errors():
            from sweeps.command_line.arguments import read_command_line

            line = read_command_line(sys.argv[1:])
            sys.argv[1:] = line.words
            if line.trains:
                _import_torch()
                from sweeps.compose.check import check

                check(line)
            job()


def _import_torch() -> None:
    """Ctrl-C inside this import would end the process by an abort in C++: it waits."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        importlib.import_module("torch")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _record_without_passwords(*args: Any, **kwargs: Any) -> logging.LogRecord:
    """Hydra's basic launcher logs the overrides of each job, an address and all."""
    record = logging.LogRecord(*args, **kwargs)
    message = record.getMessage()
    if "://" in message:
        record.msg, record.args = without_password(message), ()
    return record


if __name__ == "__main__":
    main()
