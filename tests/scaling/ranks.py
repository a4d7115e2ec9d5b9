"""Starts the ranks of a distributed program, as torchrun does."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests import warm

LIMIT_SECONDS = 120.0


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def printed_by_ranks(program: list[str], *arguments: str, cwd: Path, n_ranks: int = 2) -> list[str]:
    """What each rank's process printed; AssertionError if one failed."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"WORLD_SIZE": str(n_ranks), "OMP_NUM_THREADS": "1"}

    def start(rank: int) -> str:
        environment = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = warm.Command(program, list(arguments), str(cwd), environment)
        done = warm.run(command, LIMIT_SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with ThreadPoolExecutor(n_ranks) as pool:
        return list(pool.map(start, range(n_ranks)))
