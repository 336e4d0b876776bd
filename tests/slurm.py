"""A SLURM cluster on one machine, for tests: munge, accounting, a controller and two nodes.

Everything is made in one temporary folder, listens on free local ports, and is gone afterwards.
It needs root (a controller that starts jobs of a user must be one) but neither systemd nor cgroups.

By hand: ``python -m tests.slurm FOLDER`` brings it up, says how to talk to it, and takes it down
on Ctrl-C.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurmdbd", "slurm-client", "munge", "mariadb-server")
COMMANDS = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sacct")
NODES = ("n1", "n2")
NODE_MB = 8000
"""What the controller believes a node to have."""

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldParameters=enable_configless
# One machine plays several nodes, with more memory than it has, without cgroups.
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
# Memory is watched every second, and a step that takes more than it asked for is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePass={folder}/munge.socket
AccountingStoragePort={dbd}
AccountingStoreFlags=job_comment
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# A node that is silent for so many seconds is down; back as soon as it answers. Its jobs start
# elsewhere when their credential has expired (cred_expire, usually 120 s).
SlurmdTimeout=10
ReturnToService=2
KillWait=2
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
SLURMDBD_CONF = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={db}
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounting
PidFile={folder}/slurmdbd.pid
"""


def why_not() -> str:
    """Install what is missing where that is allowed; tell why there can be no cluster, or ''."""
    if os.geteuid() != 0:
        return "a SLURM of one's own needs root"
    said = ""
    # Tests beside each other install once: the others wait, and find everything there.
    with (Path(tempfile.gettempdir()) / "slurm-packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _missing() and shutil.which("apt-get"):
            said = _install()
    missing = _missing()
    if missing:
        return f"no {', '.join(missing)}; Debian has them in {' '.join(PACKAGES)}. {said}".strip()
    return ""


def _install() -> str:
    """Install the packages without starting their services; return what went wrong, or ''."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "install", "-qy", "--no-install-recommends", *PACKAGES]
    for command in (["apt-get", "update", "-q"], install):
        done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    return done.stderr[-500:] if done.returncode else ""


def _missing() -> list[str]:
    os.environ["PATH"] += "".join(
        f":{p}" for p in ("/usr/sbin", "/sbin") if p not in os.environ["PATH"].split(":")
    )
    return [command for command in COMMANDS if not shutil.which(command)]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def until(true: Callable[[], object], what: str, seconds: float = 600) -> None:
    """Wait for something; an error that says what never came."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.1)


@dataclass
class Cluster:
    """A running cluster."""

    folder: Path
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which SLURM's commands talk to this cluster."""
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "SLURM_CONF": f"{self.folder}/slurm.conf"}

    def command(self, *words: str, check: bool = True) -> str:
        """Run one of SLURM's commands and return what it prints."""
        done = subprocess.run(
            words, env=self.environment, text=True, capture_output=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}{self.logs()}")
        return done.stdout

    def start(self) -> None:
        """Bring everything up; returns when both nodes take jobs."""
        try:
            self._start()
        except (TimeoutError, RuntimeError):
            # Somebody took a port that was free a moment ago; that happens once at most.
            self.stop()
            self._daemons.clear()
            shutil.rmtree(self.folder)
            self._start()

    def _start(self) -> None:
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        ports = dict(zip(("ctld", "dbd", "db", *NODES), _free_ports(3 + len(NODES)), strict=True))
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[node]} CPUs=2"
            f" RealMemory={NODE_MB} State=UNKNOWN"
            for node in NODES
        )
        for name, text in (("slurm.conf", SLURM_CONF), ("slurmdbd.conf", SLURMDBD_CONF)):
            path = self.folder / name
            path.write_text(text.format(folder=self.folder, host=host, nodes=nodes, **ports))
            path.chmod(0o600)
        # Snakemake's plugin takes SLURM_CONF away from the srun that it starts inside a job.
        srun = self.folder / "bin" / "srun"
        srun.parent.mkdir()
        srun.write_text(
            f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n'
        )
        srun.chmod(0o755)
        self._start_munge()
        self._start_database(ports["db"])
        self._daemon("slurmdbd", "slurmdbd", "-D")
        self._until(
            lambda: (
                "test" in self.command("sacctmgr", "-n", "list", "cluster", check=False)
                or self.command("sacctmgr", "-i", "add", "cluster", "test", check=False)
            ),
            "slurmdbd",
        )
        self._daemon("slurmctld", "slurmctld", "-D")
        self._until(lambda: "main" in self.command("sinfo", "-h", check=False), "slurmctld")
        for node in NODES:
            self.start_node(node)
        self._until(lambda: self.states() == dict.fromkeys(NODES, "idle"), "the nodes")

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        words = (
            f"--{name}={self.folder}/munge.{name.partition('-')[0]}"
            for name in ("key-file", "socket", "pid-file", "log-file", "seed-file")
        )
        self._daemon("munged", "munged", "--foreground", "--force", "--num-threads=10", *words)
        self._until((self.folder / "munge.socket").exists, "munged")

    def _start_database(self, port: int) -> None:
        data = self.folder / "database"
        options = ("--no-defaults", f"--datadir={data}", "--user=root")
        subprocess.run(
            ["mariadb-install-db", *options, "--skip-test-db"], capture_output=True, check=True
        )
        (self.folder / "users.sql").write_text(
            "CREATE USER slurm@127.0.0.1 IDENTIFIED BY 'slurm';\n"
            "GRANT ALL ON accounting.* TO slurm@127.0.0.1;\n"
        )
        self._daemon(
            *("database", "mariadbd", *options, f"--socket={self.folder}/db", f"--port={port}"),
            *("--bind-address=127.0.0.1", f"--init-file={self.folder}/users.sql"),
        )
        self._until(lambda: _listens(port), "the database")

    def _daemon(self, name: str, *words: str, **environment: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                words,
                env={**self.environment, **environment},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def _until(self, true: Callable[[], object], what: str) -> None:
        """Wait for something, but not when one of the daemons has ended."""

        def alive() -> object:
            ended = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if ended:
                raise RuntimeError(f"{', '.join(ended)} ended{self.logs()}")
            return true()

        until(alive, what)

    def start_node(self, node: str) -> None:
        """Start a node, or start it again."""
        self._daemon(node, "slurmd", "-D", "-N", node, SLURMD_NODENAME=node)

    def kill_node(self, node: str) -> None:
        """Let a node vanish as in a power cut: its daemon, and whatever runs there."""
        pids = list(self._processes(f"SLURMD_NODENAME={node}"))
        # All stand still before the first one dies: who watched it die would tell the controller.
        for how in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, how)
        self._daemons[node].wait()

    def states(self) -> dict[str, str]:
        """Return the state of every node."""
        lines = self.command("sinfo", "-h", "-N", "-o", "%N %T", check=False).splitlines()
        return dict(line.split() for line in lines)

    def jobs(self) -> dict[str, str]:
        """Return what waits or runs: job id -> state and what it is, as the plugin says it."""
        lines = self.command("squeue", "-h", "-o", "%i %T %k", check=False).splitlines()
        return dict(line.split(maxsplit=1) for line in lines)

    def _processes(self, *marks: str) -> Iterator[int]:
        """Yield the processes that this cluster started and whose environment has all marks."""
        wanted = {f"SLURM_CONF={self.folder}/slurm.conf".encode(), *map(str.encode, marks)}
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if wanted <= set(path.read_bytes().split(b"\0")) and path.parts[2] != str(
                    os.getpid()
                ):
                    yield int(path.parts[2])

    def logs(self) -> str:
        """Return the ends of all daemons' logs."""
        return "".join(
            f"\n--- {path.name}\n{path.read_text(errors='replace')[-2000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def stop(self) -> None:
        """Take everything down."""
        self.command("scancel", "--user=root", check=False)
        for name in reversed(self._daemons):
            self._daemons[name].terminate()
        for name in self._daemons:
            with suppress(subprocess.TimeoutExpired):
                self._daemons[name].wait(10)
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main(arguments: Sequence[str]) -> None:
    """Run a cluster until Ctrl-C."""
    problem = why_not()
    if problem:
        sys.exit(problem)
    cluster = Cluster(Path(arguments[0]).resolve())
    try:
        cluster.start()
        print(f"export SLURM_CONF={cluster.folder}/slurm.conf", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        cluster.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
