"""One contract for every cluster: the simulated one of the tests, and a real Ray."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from configs.protocol.names import Env
from service.adapters.ray_jobs import RayJobs
from service.adapters.simulated import SimulatedCluster
from service.domain.errors.systems import ClusterUnreachable
from service.domain.ports import Cluster, Job, JobRequest, JobState
from service.stack.ports import choose_free_port
from tests.support.stack.ray_head import RayHead

LONGEST_S = 60.0

Connect = Callable[[str, Path | None], RayJobs]
SetOutcome = Callable[[str, JobState, int | None, str], None]


@dataclass
class ClusterUnderTest:
    """A cluster that must fulfill the contract."""

    cluster: Cluster
    set_outcome: SetOutcome
    """Sets the outcome of a job in a simulated cluster; does nothing in a real one."""


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def connect_to(url: str, token_file: Path | None) -> RayJobs:
            return stack.enter_context(closing(RayJobs(url, token_file=token_file)))

        yield connect_to


@pytest.fixture(params=["simulated", "ray"])
def tested(
    request: pytest.FixtureRequest,
    connect: Connect,
) -> ClusterUnderTest:
    if request.param == "ray":
        head: RayHead = request.getfixturevalue("ray_head")
        return ClusterUnderTest(connect(head.url, head.token_file), lambda *_: None)
    cluster = SimulatedCluster()

    def set_outcome(job: str, state: JobState, exit_code: int | None, printed: str) -> None:
        cluster.set_job_state(job, state, exit_code=exit_code)
        cluster.logs_by_job[job] = printed

    return ClusterUnderTest(cluster, set_outcome)


def test_nobody_knows_a_job_that_was_never_submitted(tested: ClusterUnderTest) -> None:
    tested.cluster.stop("nobody")

    assert tested.cluster.get_job("nobody") is None
    assert tested.cluster.logs("nobody") == ""


def test_a_job_that_ends_well_succeeds_and_leaves_its_words(tested: ClusterUnderTest) -> None:
    tested.cluster.submit(new_request("well", "echo hello there"))
    tested.set_outcome("well", "succeeded", 0, "hello there\n")

    job = wait_for_end(tested.cluster, "well")

    assert (job.state, job.exit_code) == ("succeeded", 0)
    assert "hello there\n" in tested.cluster.logs("well")


@pytest.mark.parametrize("code", [10, 20])
def test_a_job_that_ends_badly_fails_with_its_exit_code(
    tested: ClusterUnderTest, code: int
) -> None:
    tested.cluster.submit(new_request(f"badly-{code}", f"exit {code}"))
    tested.set_outcome(f"badly-{code}", "failed", code, "")

    job = wait_for_end(tested.cluster, f"badly-{code}")

    assert (job.state, job.exit_code) == ("failed", code)


def test_a_job_that_is_submitted_twice_is_one_and_one_that_is_stopped_is_over(
    tested: ClusterUnderTest,
) -> None:
    tested.cluster.submit(new_request("twice", "exec sleep 300"))
    tested.cluster.submit(new_request("twice", "exit 1"))
    tested.set_outcome("twice", "running", None, "")
    wait_for_job(tested.cluster, "twice", lambda job: job.state == "running")

    tested.cluster.stop("twice")

    assert wait_for_end(tested.cluster, "twice").state == "stopped"


def test_all_jobs_are_listed_with_what_became_of_them(tested: ClusterUnderTest) -> None:
    tested.cluster.submit(new_request("listed", "exit 7"))
    tested.set_outcome("listed", "failed", 7, "")
    wait_for_end(tested.cluster, "listed")

    jobs = tested.cluster.jobs()

    assert (jobs["listed"].state, jobs["listed"].exit_code) == ("failed", 7)


def test_a_job_that_is_over_is_deleted_and_one_that_runs_is_not(tested: ClusterUnderTest) -> None:
    tested.cluster.submit(new_request("over", "true"))
    tested.cluster.submit(new_request("running", "exec sleep 300"))
    tested.set_outcome("over", "succeeded", 0, "")
    tested.set_outcome("running", "running", None, "")
    job = wait_for_end(tested.cluster, "over")
    wait_for_job(tested.cluster, "running", lambda job: job.state == "running")

    for name in ("over", "running", "nobody"):
        tested.cluster.delete(name)
    jobs = tested.cluster.jobs()
    tested.cluster.stop("running")

    assert "over" not in jobs
    assert "running" in jobs
    if isinstance(tested.cluster, RayJobs):
        assert job.ended_at is not None
        assert abs((job.ended_at - datetime.now(UTC)).total_seconds()) < 600


def test_a_job_finds_what_it_was_given_in_its_environment(
    ray_head: RayHead, connect: Connect
) -> None:
    cluster = connect(ray_head.url, ray_head.token_file)
    request = replace(
        new_request("given", 'echo "it is $TANDEM_ATTEMPT"'), environment={Env.ATTEMPT: "r1-a2"}
    )
    cluster.submit(request)

    wait_for_end(cluster, "given")

    assert "it is r1-a2" in cluster.logs("given")


def test_a_job_runs_where_it_is_sent_and_not_where_it_is_not_to_run(
    ray_head: RayHead, connect: Connect
) -> None:
    cluster = connect(ray_head.url, ray_head.token_file)
    (node,) = cluster.nodes()
    sent = replace(new_request("sent", "true"), node_id=node.id)
    avoiding = replace(new_request("kept-away", "true"), avoid=frozenset({node.id, "f" * 56}))

    cluster.submit(sent)
    cluster.submit(avoiding)

    assert wait_for_end(cluster, "sent").node_id == node.id
    waiting = cluster.get_job("kept-away")
    assert waiting is not None
    assert waiting.state == "pending"


def test_words_of_a_command_arrive_as_they_are(tested: ClusterUnderTest) -> None:
    argument = "a 'b' \"c\" $HOME; *"
    tested.cluster.submit(new_request("quoted", 'printf "%s" "$1"', argument))
    tested.set_outcome("quoted", "succeeded", 0, argument)

    wait_for_end(tested.cluster, "quoted")

    assert argument in tested.cluster.logs("quoted")


def test_every_node_says_what_it_has(tested: ClusterUnderTest) -> None:
    (node,) = tested.cluster.nodes()

    assert (node.total_cpus, node.total_gpus, node.free_gpus) == (2.0, 0.0, 0.0)
    assert 0.0 <= node.free_cpus <= 2.0


def test_a_node_says_of_what_kind_its_gpus_are(ray_head: RayHead, connect: Connect) -> None:
    (node,) = connect(ray_head.url, ray_head.token_file).nodes()

    assert node.gpu_kind == ray_head.gpu_kind


def test_a_token_that_is_given_itself_opens_a_cluster_as_one_in_a_file_does(
    ray_head: RayHead,
) -> None:
    with closing(RayJobs(ray_head.url, token_file=None, token=ray_head.token)) as cluster:
        assert cluster.get_job("nothing") is None


def test_a_cluster_that_refuses_our_token_says_which_setting_to_mend(
    ray_head: RayHead, connect: Connect
) -> None:
    with pytest.raises(ClusterUnreachable, match="TANDEM_RAY_TOKEN_FILE"):
        connect(ray_head.url, None).nodes()


def test_a_cluster_where_nothing_listens_is_unreachable(
    connect: Connect,
) -> None:
    with pytest.raises(ClusterUnreachable):
        connect(f"http://127.0.0.1:{choose_free_port()}", None).get_job("any")


def test_something_else_at_rays_address_is_unreachable(
    connect: Connect,
) -> None:
    cluster = connect("http://ray.invalid", None)
    cluster.close()
    other = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>hello</html>"))
    cluster._client = httpx.Client(base_url="http://ray.invalid", transport=other)

    with pytest.raises(ClusterUnreachable, match="is not Ray"):
        cluster.nodes()


def new_request(job: str, script: str, *arguments: str) -> JobRequest:
    command = ("sh", "-c", script, "sh", *arguments)
    return JobRequest(job, command, num_cpus=1, num_gpus=0, metadata={"run_id": "r"})


def wait_for_end(cluster: Cluster, job: str) -> Job:
    return wait_for_job(cluster, job, lambda current: current.is_over)


def wait_for_job(cluster: Cluster, job: str, condition: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        current = cluster.get_job(job)
        if current is not None and condition(current):
            return current
        time.sleep(0.1)
    raise TimeoutError(f"{job} is {cluster.get_job(job)}")
