"""What Ray's answers mean: that it is away, or that it cannot answer one request."""

from collections.abc import Callable
from contextlib import closing

import httpx
import pytest

from service.adapters.ray_jobs import RayJobs
from service.domain.errors.systems import ClusterFault, ClusterUnreachable
from service.domain.ports import JobRequest

REQUEST = JobRequest("job", ("true",), num_cpus=1, num_gpus=0, metadata={})
CALLS: dict[str, Callable[[RayJobs], object]] = {
    "a job": lambda ray: ray.get_job("job"),
    "all jobs": lambda ray: ray.jobs(),
    "a log": lambda ray: ray.logs("job"),
    "nodes": lambda ray: ray.nodes(),
    "a submission": lambda ray: ray.submit(REQUEST),
}


def make_ray(answer: httpx.Response | httpx.HTTPError) -> RayJobs:
    def respond(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return answer

    ray = RayJobs("http://ray.invalid", token_file=None)
    ray.close()
    transport = httpx.MockTransport(respond)
    ray._client = httpx.Client(base_url="http://ray.invalid", transport=transport)
    return ray


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(502, text="<html>bad gateway</html>"),
        httpx.Response(503),
        httpx.Response(504),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
    ],
    ids=["502", "503", "504", "refused", "slow"],
)
def test_a_proxy_or_nobody_answers_for_a_ray_that_is_away(
    call: Callable[[RayJobs], object], answer: httpx.Response | httpx.HTTPError
) -> None:
    with closing(make_ray(answer)) as ray, pytest.raises(ClusterUnreachable):
        call(ray)


@pytest.mark.parametrize("name", ["a job", "all jobs", "a log", "a submission"])
def test_an_error_of_ray_itself_is_about_what_was_asked(name: str) -> None:
    answer = httpx.Response(500, text="Traceback of Ray\nmore")
    with (
        closing(make_ray(answer)) as ray,
        pytest.raises(ClusterFault, match=r"500: Traceback of Ray$"),
    ):
        CALLS[name](ray)


def test_a_ray_that_cannot_list_its_nodes_cannot_be_used() -> None:
    with closing(make_ray(httpx.Response(500))) as ray, pytest.raises(ClusterUnreachable):
        ray.nodes()
