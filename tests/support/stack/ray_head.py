"""A Ray head of a test on free ports; it ends with everything that it has started."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from service.stack.ports import choose_free_port
from tests.support.waiting import wait_until

_PATIENCE_S = 180.0
_NO_GPUS = "--num-gpus=0"


@dataclass(frozen=True)
class RayHead:
    """A head with a dashboard, one node with two CPUs, and a token."""

    url: str
    """Of the dashboard, which serves the job API."""

    token: str
    token_file: Path
    gpu_kind: str
    """The kind of GPUs that the node advertises; it has none."""

    driver_env: dict[str, str]
    """The environment of a process that connects as a driver."""


@contextmanager
def start_ray_head(*options: str, env: Mapping[str, str]) -> Iterator[int]:
    """The port of a head with two CPUs that has started.

    `options` are words of `ray start`, and `env` is the environment of the head.
    """
    # The path of a Unix socket has 107 bytes at most: not pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="tandem-ray-", dir="/tmp"))
    # Ray's defaults are fixed ports, which another head on this machine may hold.
    port, client, agent, agent_grpc, metrics = (choose_free_port() for _ in range(5))
    command = [
        str(Path(sys.executable).parent / "ray"),
        *("start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2", _NO_GPUS),
        *(f"--port={port}", f"--ray-client-server-port={client}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder / 'ray'}"),
        *(f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}"),
        *("--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"),
        *options,
    ]
    with (folder / "log").open("w") as log:
        head = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(folder / "log", head)
        yield port
    finally:
        _end(head, folder=folder)
        shutil.rmtree(folder)


def _wait_for(log: Path, head: subprocess.Popen[bytes]) -> None:
    def has_started() -> bool:
        text = log.read_text(encoding="utf-8")
        assert head.poll() is None, text
        return "Ray runtime started" in text

    wait_until(has_started, timeout_s=_PATIENCE_S, interval_s=0.1)


def _end(head: subprocess.Popen[bytes], *, folder: Path) -> None:
    processes = _processes_of(head, folder=folder)
    os.killpg(head.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=2)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    head.wait(timeout=10)
    psutil.wait_procs(alive, timeout=10)
    assert not [process for process in processes if process.is_running()]


def _processes_of(head: subprocess.Popen[bytes], *, folder: Path) -> list[psutil.Process]:
    """The head, its children, and every process with the folder on its command line."""
    root = psutil.Process(head.pid)
    processes = {root, *root.children(recursive=True)}
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            processes.add(process)
    return list(processes)
