"""Train trials: `sweep batch_size=64`, `sweep -m study=linear_regression`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hydra
from omegaconf import DictConfig

from scaling.addresses import without_password
from scaling.commands import exit_with_version
from scaling.imports import import_for_good
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
            if not line.trains:
                job()
                return
            with _torch_imported(line.writes):
                from sweeps.compose.check import check

                check(line)
                job()


@contextmanager
def _torch_imported(writes: bool) -> Iterator[None]:
    """While torch is imported here, another process imports MLflow, if it will be asked to write.

    Ctrl-C inside the import of torch would end the process by an abort in C++: it waits.
    """
    from scaling.store.writer import end_early, start_early

    if writes and "torch" not in sys.modules:
        start_early()
    try:
        _import_torch()
        yield
    finally:
        end_early()


def _import_torch() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        import_for_good("torch")
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
