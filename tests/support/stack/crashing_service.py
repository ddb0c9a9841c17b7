"""The service as a process that kills itself at a step of its work: `python -m ... POINT`.

No signal handler and no `finally` runs: it is as if the machine had lost its power there.
"""

import os
import signal
import sys
from contextlib import closing

import uvicorn

from service.adapters.ray_jobs import RayJobs
from service.domain.ports import Job, JobRequest, Node
from service.main import create_app
from service.settings import Settings

POINTS = (
    "before submit",
    "after submit",
    "while it runs",
    "before stop",
    "after stop",
    "before the end is written",
    "never",
)
_LOOKS = 5


class DyingCluster:
    """Implements `ports.Cluster`: Ray, and death at a step."""

    def __init__(self, ray: RayJobs, point: str) -> None:
        self._ray = ray
        self._point = point
        self._looks = 0

    def submit(self, order: JobRequest) -> None:
        """Submit a job, or die around it."""
        self._die_at("before submit")
        self._ray.submit(order)
        self._die_at("after submit")

    def get_job(self, submission_id: str) -> Job | None:
        """What Ray says of a job, unless that is the step."""
        job = self._ray.get_job(submission_id)
        if job is not None and job.is_over:
            self._die_at("before the end is written")
        if job is not None and job.state == "running":
            self._looks += 1
            if self._looks >= _LOOKS:
                self._die_at("while it runs")
        return job

    def stop(self, submission_id: str) -> None:
        """Stop a job, or die around it."""
        self._die_at("before stop")
        self._ray.stop(submission_id)
        self._die_at("after stop")

    def jobs(self) -> dict[str, Job]:
        """As Ray says."""
        return self._ray.jobs()

    def logs(self, submission_id: str) -> str:
        """As Ray says."""
        return self._ray.logs(submission_id)

    def nodes(self) -> tuple[Node, ...]:
        """As Ray says."""
        return self._ray.nodes()

    def _die_at(self, point: str) -> None:
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


def main(point: str) -> None:
    """Serve until then."""
    assert point in POINTS
    settings = Settings()
    with closing(RayJobs(settings.ray_url, token_file=settings.ray_token_file)) as ray:
        app = create_app(settings, cluster=DyingCluster(ray, point))
        uvicorn.run(app, host=settings.host, port=settings.port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1])
