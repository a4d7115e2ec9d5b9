"""A Slurm cluster of this machine alone, in a folder of its own: no system file or service is used.

    python -m tests.slurm.one_node      # start one, print how to talk to it, stop it by Ctrl-C

Needs Debian's slurm-wlm and munge, and root. Two nodes of one core each, both this machine, in the
partitions `main`, `low` (requeued for `main`) and `lowest` (cancelled for `main`).
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun")
NODES = ("node1", "node2")
PATIENCE_SECONDS = 30.0
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,default_queue_depth=100
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=10
InactiveLimit=0
KillWait=10
MinJobAge=300
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=10 PreemptMode=OFF MaxTime=UNLIMITED
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=5
PartitionName=lowest Nodes=ALL PriorityTier=1 PreemptMode=CANCEL GraceTime=5
"""


def why_not() -> str | None:
    """Why no cluster can be started here; None if one can."""
    missing = [name for name in PROGRAMS if _find(name) is None]
    if missing:
        return f"{', '.join(missing)} not on this machine (apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "only root can start a Slurm cluster"
    return None


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass
class Cluster:
    """environment: what Slurm's commands need to find this cluster."""

    folder: Path
    environment: dict[str, str]
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        key = self.folder / "munge.key"
        key.touch(0o400)
        key.write_bytes(secrets.token_bytes(128))
        names = ("key-file", "socket", "pid-file", "log-file", "seed-file")
        files = [self.folder / f"munge.{name.partition('-')[0]}" for name in names]
        options = [f"--{name}={file}" for name, file in zip(names, files, strict=True)]
        self._run("munged", "--foreground", "--force", *options)
        _wait_for(self.folder / "munge.socket")
        self._run("slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        self.wait_until_idle()

    def start_node(self, node: str) -> None:
        self._run("slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """As if its power was cut: the daemon and everything that it started."""
        self._kill(f"slurmd {node}")
        self.kill_steps(node)

    def kill_steps(self, node: str) -> None:
        """SIGKILL all that jobs of this cluster run on a node."""
        import psutil

        for process in psutil.process_iter(["environ"]):
            env = process.info["environ"] or {}
            ours = env.get("SLURM_CONF") == self.environment["SLURM_CONF"]
            if ours and env.get("SLURMD_NODENAME") == node:
                process.kill()

    def command(self, *words: str) -> str:
        """What a Slurm command prints."""
        env = {**os.environ, **self.environment}
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def wait_until_idle(self) -> None:
        """Every node is there and nothing runs or waits."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            states = self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split()
            if states == ["idle"] * len(NODES) and not self.command("squeue", "-h"):
                return
            assert time.monotonic() < deadline, self.command("sinfo", "-N", "-l")
            time.sleep(0.2)

    def stop(self) -> None:
        for node in NODES:
            self.kill_steps(node)
        for name in reversed(list(self._daemons)):
            self._kill(name)

    def _run(self, program: str, *options: str) -> None:
        path, name = _find(program), " ".join([program, *options[2:3]])
        assert path is not None
        env = {**os.environ, **self.environment}
        with (self.folder / "daemons.log").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                [path, *options], env=env, stdout=out, stderr=out, start_new_session=True
            )

    def _kill(self, name: str) -> None:
        process = self._daemons.pop(name)
        process.kill()
        process.wait()


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.05)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster; everything of it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        folder, host = Path(name), socket.gethostname()
        folder.chmod(0o755)
        for part in ("state", *(f"spool-{node}" for node in NODES)):
            (folder / part).mkdir()
        ctld_port, *ports = _free_ports(1 + len(NODES))
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 "
            f"RealMemory=4000 State=UNKNOWN"
            for node, port in zip(NODES, ports, strict=True)
        ]
        conf = CONF.format(folder=folder, host=host, ctld_port=ctld_port, nodes="\n".join(nodes))
        (folder / "slurm.conf").write_text(conf)
        (folder / "plugstack.conf").touch()
        made = Cluster(folder, {"SLURM_CONF": str(folder / "slurm.conf")})
        try:
            made.start()
            yield made
        finally:
            made.stop()


def main() -> None:
    if reason := why_not():
        sys.exit(reason)
    with cluster() as made:
        print(*(f"export {key}={value}" for key, value in made.environment.items()), sep="\n")
        print("running; Ctrl-C stops it", flush=True)
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            print("stopping")


if __name__ == "__main__":
    main()
