"""Real servers on loopback for tests: PostgreSQL, MLflow's own; killed and started again at will.

Skips the test, with a reason, where PostgreSQL is not installed.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

STORES = ("sqlite", "postgresql", "http")
SERVERS: dict[str, Postgres | MlflowServer] = {}  # by URI
PASSWORD = "s3cr3t/of@tests"  # with the two characters that addresses have to quote
QUOTED = "s3cr3t%2Fof%40tests"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)


def postgres_programs() -> Path:
    """The folder of initdb and postgres, on the path or where Debian keeps them."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return found[-1].parent


class Postgres:
    """A cluster of its own in a temporary folder, listening on 127.0.0.1 alone.

    PostgreSQL refuses to run as root: then it runs as the user `postgres` of its package.
    """

    def __init__(self) -> None:
        self._programs = postgres_programs()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # its user must reach it
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            try:
                owner = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
            self._as_user = ["setpriv", "--reuid", "postgres", "--regid", str(owner.pw_gid)]
            self._as_user.append("--clear-groups")
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        self.port = free_port()
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "-N"]
        self._run("initdb", "-D", str(self._data), f"--pwfile={secret}", *options)
        self.start()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c max_connections=200 "
        settings += f"-c unix_socket_directories={self._folder} -c fsync=off"
        log = str(self._folder / "log")
        # not through pipes, which the server would inherit and hold open
        command = [*self._as_user, str(self._programs / "pg_ctl"), "-D", str(self._data)]
        command += ["-o", settings, "-l", log, "-w", "start"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd="/")

    def kill(self) -> None:
        """SIGKILL to the server and all that serve a connection, as when its machine dies."""
        postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split("\n")[0]))
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family)
        wait_until(lambda: not answers(self.port), "the end of PostgreSQL")

    def uri(self, database: str, password: str = QUOTED) -> str:
        address = f"127.0.0.1:{self.port}/{database}"
        uri = f"postgresql+psycopg://postgres:{password}@{address}"
        SERVERS[uri] = self
        return uri

    def create(self, database: str, template: str = "template1") -> str:
        """A new database, a copy of another one; its URI."""
        self.execute("postgres", f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.uri(database)

    def execute(self, database: str, statement: str) -> None:
        import psycopg

        address = self.uri(database).replace("+psycopg", "")
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement.encode())

    def remove(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "stop")
        shutil.rmtree(self._folder)


class MlflowServer:
    """`mlflow server` on 127.0.0.1 with a SQLite file behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.database = f"sqlite:///{folder}/server.db"
        self.uri = f"http://127.0.0.1:{self.port}"
        SERVERS[self.uri] = self
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--allowed-hosts", "127.0.0.1:*"]
        command += ["--backend-store-uri", self.database]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | quiet,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._is_up, "the start of mlflow server")

    def _is_up(self) -> bool:
        assert self._process.poll() is None, (self.folder / "server.log").read_text()
        log = (self.folder / "server.log").read_text()
        starts = len(re.findall("Application startup complete", log))
        begun = len(re.findall("Started server process", log))
        return answers(self.port) and starts >= begun > 0

    def kill(self) -> None:
        """SIGKILL to the server and its workers."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not answers(self.port), "the end of mlflow server")
