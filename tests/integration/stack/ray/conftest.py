"""One Ray head for all tests of this folder."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.adapters.ray_jobs import RayJobs
from service.domain.errors.systems import ClusterUnreachable
from service.stack.ports import choose_free_port
from tests.support.stack.ray_head import RayHead, start_ray_head
from tests.support.waiting import wait_until

_TIMEOUT_S = 60.0


@pytest.fixture(scope="session")
def ray_head() -> Iterator[RayHead]:
    token, gpu_kind = "t" * 64, "A100"
    dashboard_port = choose_free_port()
    options = (
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}"),
        f'--resources={{"accelerator_type:{gpu_kind}": 1}}',  # as Ray says of a node with GPUs
    )
    env = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    with (
        tempfile.TemporaryDirectory(prefix="tandem-token-") as folder,
        start_ray_head(*options, env=env) as port,
    ):
        token_file = Path(folder) / "token"
        token_file.write_text(token, encoding="ascii")
        head = RayHead(
            url=f"http://127.0.0.1:{dashboard_port}",
            token=token,
            token_file=token_file,
            gpu_kind=gpu_kind,
            driver_env=env | {"RAY_ADDRESS": f"127.0.0.1:{port}"},
        )
        with closing(RayJobs(head.url, token_file=token_file)) as cluster:
            wait_until(lambda: _responds(cluster), timeout_s=_TIMEOUT_S, interval_s=0.2)
        yield head


def _responds(cluster: RayJobs) -> bool:
    try:
        cluster.nodes()
    except ClusterUnreachable:
        return False
    return True
