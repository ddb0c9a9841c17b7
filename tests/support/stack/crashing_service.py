"""The service as a process that kills itself at a point of its work: `python -m ... POINT`.

SIGKILL runs no signal handler and no `finally`, as in a power failure.
"""

import os
import signal
import sys
from collections.abc import Mapping
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
_POLLS_BEFORE_CRASH = 5


class CrashingCluster:
    """Implements `ports.Cluster` with Ray, and kills the process at `point`."""

    def __init__(self, ray: RayJobs, point: str) -> None:
        self._ray = ray
        self._point = point
        self._polls = 0
        self._submitted: set[str] = set()

    def submit(self, request: JobRequest) -> None:
        self._crash_at("before submit")
        self._ray.submit(request)
        self._submitted.add(request.submission_id)
        self._crash_at("after submit")

    def get_job(self, submission_id: str) -> Job | None:
        job = self._ray.get_job(submission_id)
        if job is not None:
            self._observe({submission_id: job})
        return job

    def stop(self, submission_id: str) -> None:
        self._crash_at("before stop")
        self._ray.stop(submission_id)
        self._crash_at("after stop")

    def delete(self, submission_id: str) -> None:
        self._ray.delete(submission_id)

    def jobs(self) -> dict[str, Job]:
        jobs = self._ray.jobs()
        self._observe(jobs)
        return jobs

    def logs(self, submission_id: str) -> str:
        return self._ray.logs(submission_id)

    def recent_nodes(self) -> tuple[Node, ...]:
        return self.nodes()

    def nodes(self) -> tuple[Node, ...]:
        return self._ray.nodes()

    def _observe(self, jobs: Mapping[str, Job]) -> None:
        """Look at jobs of this process only: Ray lists those of earlier tests, too."""
        own_jobs = [job for name, job in jobs.items() if name in self._submitted]
        if any(job.is_over for job in own_jobs):
            self._crash_at("before the end is written")
        if any(job.state == "running" for job in own_jobs):
            self._polls += 1
            if self._polls >= _POLLS_BEFORE_CRASH:
                self._crash_at("while it runs")

    def _crash_at(self, point: str) -> None:
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


def main(point: str) -> None:
    """Serve until `point` is reached."""
    assert point in POINTS
    settings = Settings()
    with closing(RayJobs(settings.ray_url, token_file=settings.ray_token_file)) as ray:
        app = create_app(settings, cluster=CrashingCluster(ray, point))
        uvicorn.run(app, host=settings.host, port=settings.port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1])
