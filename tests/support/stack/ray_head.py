"""A Ray of our own on free ports, gone with everything that it started."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from service.stack.ports import choose_free_port

_PATIENCE_S = 180.0


@contextmanager
def a_ray_head() -> Iterator[dict[str, str]]:
    """The environment that connects a process with it."""
    # The path of a Unix socket has 107 bytes at most: not pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="tandem-ray-", dir="/tmp"))
    port, client, agent, agent_grpc, metrics = (choose_free_port() for _ in range(5))
    env = os.environ | {
        "RAY_ADDRESS": f"127.0.0.1:{port}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    command = [
        str(Path(sys.executable).parent / "ray"),
        *("start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=false"),
        *("--num-cpus=2", "--num-gpus=0", "--object-store-memory=80000000"),
        *(f"--port={port}", f"--temp-dir={folder / 'ray'}"),
        # Ray's defaults are fixed ports, which another head on this machine may hold.
        *(f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"),
        *(f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}"),
        *("--min-worker-port=0", "--max-worker-port=0"),
    ]
    with (folder / "log").open("w") as log:
        without = {name: value for name, value in env.items() if name != "RAY_ADDRESS"}
        head = subprocess.Popen(
            command, env=without, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for(folder / "log", head)
        yield env
    finally:
        _end(head, folder=folder)
        shutil.rmtree(folder)


def _wait_for(log: Path, head: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while "Ray runtime started" not in log.read_text(encoding="utf-8"):
        assert head.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, "Ray does not start."
        time.sleep(0.1)


def _end(head: subprocess.Popen[bytes], *, folder: Path) -> None:
    ours = {psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)}
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            ours.add(process)
    os.killpg(head.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(list(ours), timeout=2)
    for process in alive:
        process.kill()
    head.wait(timeout=10)
    psutil.wait_procs(alive, timeout=10)
