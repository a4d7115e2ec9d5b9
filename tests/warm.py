"""A process that has imported the libraries and this project: each command of a test is its fork.

A command then starts in 0.1 s instead of 2 to 5 s. What depends on the start of an interpreter (its
flags, a user's file of a library's name) is tested without it: `command_line.run(..., cold=True)`.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from tests import warm_processes

LIBRARIES = (
    "torch",
    "mlflow",
    "sqlalchemy",
    "alembic",
    "hydra",
    "pebble",
    "pandas",
    "scipy.special",
    "scipy.optimize",
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
    "jinja2",
)


ROOT = Path(__file__).parents[1]


def modules_of_ours() -> list[str]:
    """All but those that are run as programs."""
    paths = [
        path for name in ("scaling", "sweeps", "analysis") for path in ROOT.glob(f"{name}/**/*.py")
    ]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(paths)]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def code_of(end: SystemExit) -> int:
    """The exit code that an interpreter makes of it, which prints a text first."""
    if isinstance(end.code, str):
        print(end.code, file=sys.stderr)
    return end.code if isinstance(end.code, int) else int(end.code is not None)


@dataclass(frozen=True)
class Command:
    """program: a script, or -m and a module."""

    program: list[str]
    arguments: list[str]
    cwd: str
    environment: dict[str, str]

    def run(self) -> None:
        """In this process, as an interpreter that was started for it would; does not return."""
        code = 0
        try:
            self._run()
        except SystemExit as end:
            code = code_of(end)
        except BaseException:
            traceback.print_exc()
            code = 1
        threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # tearing down what the server imported would cost a second

    def _run(self) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.cwd)
        warm_processes.use_server()
        sys.argv = [self.program[-1], *self.arguments]
        if self.program[0] == "-m":
            sys.path[0] = self.cwd
            runpy.run_module(self.program[1], run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = str(Path(self.program[0]).parent)
            runpy.run_path(self.program[0], run_name="__main__")


def run(command: Command, timeout_seconds: float) -> subprocess.CompletedProcess[str]:
    """Its exit code and what it printed; TimeoutError when it does not end in time."""
    with (
        socket.socket(socket.AF_UNIX) as connection,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        connection.settimeout(timeout_seconds)
        connection.connect(_server())
        line = json.dumps(asdict(command)).encode() + b"\n"
        socket.send_fds(connection, [line[:1]], [out.fileno(), err.fileno()])
        connection.sendall(line[1:])
        code = int(connection.makefile().readline())
        printed = []
        for file in (out, err):
            file.seek(0)
            printed.append(file.read().decode())
    return subprocess.CompletedProcess(command.arguments, code, *printed)


@functools.cache
def _server() -> str:
    """The address of this test process's server, started at the first command."""
    folder = tempfile.mkdtemp(prefix="warm-")
    address = f"{folder}/socket"
    reading, writing = os.pipe()  # its end tells the server that nobody asks any more
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", address, str(reading)],
        cwd=Path(__file__).parents[1],
        pass_fds=[reading],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(reading)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def end() -> None:
        os.close(writing)
        process.wait()
        shutil.rmtree(folder)

    atexit.register(end)
    return address


def _serve(address: str, asked: int) -> Command | None:
    """None when nobody asks any more; in a child, the command that it is to run."""
    os.environ["MLFLOW_LOGGING_LEVEL"] = "CRITICAL"  # read at its import
    modules = [*LIBRARIES, *modules_of_ours()]
    warm_processes.start_server(modules)
    for name in modules:
        importlib.import_module(name)
    importlib.import_module("sweeps.run.provenance").installed_packages()  # kept once read
    gc.freeze()  # its collections would copy what is shared with the children
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        print("ready", flush=True)
        os.set_blocking(asked, False)
        while True:
            ready, _, _ = select.select([listening, asked], [], [])
            if asked in ready:
                return None
            connection, _ = listening.accept()
            if os.fork() == 0:
                break
            connection.close()
    os.close(asked)
    return _answer(connection)


def _answer(connection: socket.socket) -> Command:
    """Fork once more: the child gets the command, this process tells its exit code and ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, handles, _, _ = socket.recv_fds(connection, 1, 2)
    command = Command(**json.loads(text + connection.makefile("rb").readline()))
    child = os.fork()
    if child != 0:
        _, status = os.waitpid(child, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    connection.close()
    for number, handle in enumerate(handles, 1):
        os.dup2(handle, number)
        os.close(handle)
    return command


if __name__ == "__main__":
    given = _serve(sys.argv[1], int(sys.argv[2]))
    if given is not None:
        given.run()
