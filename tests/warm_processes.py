"""The processes that a warm command starts are forks of one that has them imported, too.

That one is multiprocessing's own fork server. What it forks takes over the directory and sys.path
of the process that asks, as always, and here also the environment and where output goes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing import context, forkserver, resource_tracker, spawn  # pyright: ignore[reportAttributeAccessIssue]
from typing import Any

ENVIRONMENT, OUTPUTS = "environment", "outputs"
_prepare: Callable[[dict[str, Any]], None] = spawn.prepare
_preparation: Callable[[str], dict[str, Any]] = spawn.get_preparation_data


def start_server(modules: Sequence[str]) -> None:
    """In the process whose forks are commands: a Ctrl-C never reaches what they start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    forkserver.set_forkserver_preload([*modules, "tests.warm_preload"])
    forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def use_server() -> None:
    """In a command: whatever it asks to spawn, or to be forked by a server, is forked by that."""
    server = forkserver._forkserver  # pyright: ignore[reportAttributeAccessIssue]
    server.ensure_running = resource_tracker.ensure_running  # it is no child of this process
    contexts: dict[str, Any] = context._concrete_contexts  # pyright: ignore[reportAttributeAccessIssue]
    contexts["spawn"] = contexts["forkserver"]
    spawn.get_preparation_data = _with_environment


def _with_environment(name: str) -> dict[str, Any]:
    outputs = [f"/proc/{os.getpid()}/fd/{number}" for number in (1, 2)]
    return {**_preparation(name), ENVIRONMENT: dict(os.environ), OUTPUTS: outputs}


def _prepare_surroundings(data: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(data.pop(ENVIRONMENT))
    for number, path in enumerate(data.pop(OUTPUTS), 1):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    _prepare(data)


def take_over() -> None:
    """In the server, before it forks."""
    spawn.prepare = _prepare_surroundings
