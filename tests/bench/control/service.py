"""The service with its loops and a simulated cluster, as a process whose memory is measured.

Started as `python -m tests.bench.control.service`, with the settings in the environment.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import uvicorn

from service.adapters.simulated import SimulatedCluster, SimulatedTracker
from service.domain.ports import Node
from service.main import create_app
from service.settings import Settings
from service.stack.ports import choose_free_port
from tests.bench.control.measurement import forget_garbage

_START_TIMEOUT_S = 120.0


class ServiceProcess:
    """A running service."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url = url
        self._process = process

    @property
    def rss_mib(self) -> float:
        return float(self._process.memory_info().rss) / 2**20

    @property
    def peak_rss_mib(self) -> float:
        """The peak since the start, or since `forget_peak`."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines()
        peak_kib = next(line for line in lines if line.startswith("VmHWM")).split()[1]
        return int(peak_kib) / 1024

    @property
    def cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def forget_peak(self) -> None:
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5", encoding="ascii")


@contextmanager
def run_service(
    home: Path, database_url: str, *, jobs_file: Path | None = None
) -> Iterator[ServiceProcess]:
    """Start the service, and stop it at the end.

    `jobs_file` has the ids of running jobs, one a line; they use the whole cluster.
    """
    port = choose_free_port()
    environment = {
        **os.environ,
        "TANDEM_HOME": str(home),
        "TANDEM_PORT": str(port),
        "TANDEM_DATABASE_URL": database_url,
        "TANDEM_RATE_LIMIT": "1000000/second",
        "TANDEM_LOG_LEVEL": "error",
    }
    command = [sys.executable, "-m", "tests.bench.control.service"]
    command += [] if jobs_file is None else [str(jobs_file)]
    with subprocess.Popen(command, env=environment) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process)
            yield ServiceProcess(url, psutil.Process(process.pid))
        finally:
            process.terminate()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            httpx.get(f"{url}/healthz")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the service does not answer")


def main(argv: Sequence[str]) -> None:
    """Serve until a signal."""
    settings = Settings()
    cluster = SimulatedCluster()
    for jobs_file in argv:
        cluster.cluster_nodes = (Node(4.0, 0.0, 0.0, 0.0),)
        for job_id in Path(jobs_file).read_text(encoding="utf-8").split():
            cluster.set_job_state(job_id, "running")
    app = create_app(settings, cluster=cluster, tracker=SimulatedTracker())
    forget_garbage()  # as `serve` does
    uvicorn.run(app, host=settings.host, port=settings.port, log_level="error")


if __name__ == "__main__":
    main(sys.argv[1:])
