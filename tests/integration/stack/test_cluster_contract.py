"""One contract for every cluster: the simulated one that our tests trust, and a real Ray."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
import pytest

from configs.protocol.names import Env
from service.adapters.ray_jobs import RayJobs
from service.adapters.simulated import SimulatedCluster
from service.domain.errors import ClusterUnreachable
from service.domain.ports import Cluster, Job, JobRequest, JobState
from service.stack.ports import choose_free_port

TOKEN = "t" * 64
LONGEST_S = 60.0
GPU_KIND = "A100"

Connect = Callable[[str, Path | None], RayJobs]


@dataclass
class Theatre:
    """A cluster, and how a test has a job do what its command says."""

    cluster: Cluster
    play: Callable[[str, JobState, int | None, str], None]


@pytest.fixture(scope="module")
def token_file() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tandem-token-"))
    file = folder / "token"
    file.write_text(TOKEN, encoding="ascii")
    yield file
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def ray_url(token_file: Path) -> Iterator[str]:
    """A Ray head of our own on free ports, gone with everything it started."""
    # The path of a Unix socket has 107 bytes at most: not pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="tandem-ray-", dir="/tmp"))
    gcs, dashboard, client, agent, agent_grpc, metrics = (choose_free_port() for _ in range(6))
    command = [
        str(Path(sys.executable).parent / "ray"),
        *("start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2", "--num-gpus=0"),
        f'--resources={{"accelerator_type:{GPU_KIND}": 1}}',  # as Ray says of a node with GPUs
        *(f"--port={gcs}", f"--ray-client-server-port={client}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder / 'ray'}"),
        *(f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}"),
        *("--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"),
    ]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
    with (folder / "log").open("w") as log:
        head = subprocess.Popen(
            command, env=os.environ | token, stdout=log, stderr=log, start_new_session=True
        )
    try:
        with closing(RayJobs(f"http://127.0.0.1:{dashboard}", token_file=token_file)) as cluster:
            _wait_for_head(cluster, folder)
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        _end(head, folder=folder)
        shutil.rmtree(folder)


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def connected(url: str, token_file: Path | None) -> RayJobs:
            return stack.enter_context(closing(RayJobs(url, token_file=token_file)))

        yield connected


@pytest.fixture(params=["simulated", "ray"])
def theatre(
    request: pytest.FixtureRequest,
    token_file: Path,
    connect: Connect,
) -> Theatre:
    if request.param == "ray":
        url: str = request.getfixturevalue("ray_url")
        return Theatre(connect(url, token_file), lambda *_: None)
    cluster = SimulatedCluster()

    def play(job: str, state: JobState, exit_code: int | None, printed: str) -> None:
        cluster.set_job_state(job, state, exit_code=exit_code)
        cluster.logs_by_job[job] = printed

    return Theatre(cluster, play)


def test_nobody_knows_a_job_that_was_never_submitted(theatre: Theatre) -> None:
    theatre.cluster.stop("nobody")

    assert theatre.cluster.get_job("nobody") is None
    assert theatre.cluster.logs("nobody") == ""


def test_a_job_that_ends_well_succeeds_and_leaves_its_words(theatre: Theatre) -> None:
    theatre.cluster.submit(an_order("well", "echo hello there"))
    theatre.play("well", "succeeded", 0, "hello there\n")

    job = when_over(theatre.cluster, "well")

    assert (job.state, job.exit_code) == ("succeeded", 0)
    assert "hello there\n" in theatre.cluster.logs("well")


@pytest.mark.parametrize("code", [10, 20])
def test_a_job_that_ends_badly_fails_with_its_exit_code(theatre: Theatre, code: int) -> None:
    theatre.cluster.submit(an_order(f"badly-{code}", f"exit {code}"))
    theatre.play(f"badly-{code}", "failed", code, "")

    job = when_over(theatre.cluster, f"badly-{code}")

    assert (job.state, job.exit_code) == ("failed", code)


def test_a_job_that_is_submitted_twice_is_one_and_one_that_is_stopped_is_over(
    theatre: Theatre,
) -> None:
    theatre.cluster.submit(an_order("twice", "exec sleep 300"))
    theatre.cluster.submit(an_order("twice", "exit 1"))
    theatre.play("twice", "running", None, "")
    when(theatre.cluster, "twice", lambda job: job.state == "running")

    theatre.cluster.stop("twice")

    assert when_over(theatre.cluster, "twice").state == "stopped"


def test_all_jobs_are_listed_with_what_became_of_them(theatre: Theatre) -> None:
    theatre.cluster.submit(an_order("listed", "exit 7"))
    theatre.play("listed", "failed", 7, "")
    when_over(theatre.cluster, "listed")

    jobs = theatre.cluster.jobs()

    assert (jobs["listed"].state, jobs["listed"].exit_code) == ("failed", 7)


def test_a_job_finds_what_it_was_given_in_its_environment(
    ray_url: str, connect: Connect, token_file: Path
) -> None:
    cluster = connect(ray_url, token_file)
    order = replace(
        an_order("given", 'echo "it is $TANDEM_ATTEMPT"'), environment={Env.ATTEMPT: "r1-a2"}
    )
    cluster.submit(order)

    when_over(cluster, "given")

    assert "it is r1-a2" in cluster.logs("given")


def test_a_job_runs_where_it_is_sent_and_not_where_it_is_not_to_run(
    ray_url: str, connect: Connect, token_file: Path
) -> None:
    cluster = connect(ray_url, token_file)
    (node,) = cluster.nodes()
    sent = replace(an_order("sent", "true"), node_id=node.id)
    kept_away = replace(an_order("kept-away", "true"), avoid=frozenset({node.id, "f" * 56}))

    cluster.submit(sent)
    cluster.submit(kept_away)

    assert when_over(cluster, "sent").node_id == node.id
    waiting = cluster.get_job("kept-away")
    assert waiting is not None
    assert waiting.state == "pending"


def test_words_of_a_command_arrive_as_they_are(theatre: Theatre) -> None:
    said = "a 'b' \"c\" $HOME; *"
    theatre.cluster.submit(an_order("quoted", 'printf "%s" "$1"', said))
    theatre.play("quoted", "succeeded", 0, said)

    when_over(theatre.cluster, "quoted")

    assert said in theatre.cluster.logs("quoted")


def test_every_node_says_what_it_has(theatre: Theatre) -> None:
    (node,) = theatre.cluster.nodes()

    assert (node.total_cpus, node.total_gpus, node.free_gpus) == (2.0, 0.0, 0.0)
    assert 0.0 <= node.free_cpus <= 2.0


def test_a_node_says_of_what_kind_its_gpus_are(
    ray_url: str, connect: Connect, token_file: Path
) -> None:
    (node,) = connect(ray_url, token_file).nodes()

    assert node.gpu_kind == GPU_KIND


def test_a_token_that_is_given_itself_opens_a_cluster_as_one_in_a_file_does(ray_url: str) -> None:
    with closing(RayJobs(ray_url, token_file=None, token=TOKEN)) as cluster:
        assert cluster.get_job("nothing") is None


def test_a_cluster_that_refuses_our_token_says_which_setting_to_mend(
    ray_url: str, connect: Connect
) -> None:
    with pytest.raises(ClusterUnreachable, match="TANDEM_RAY_TOKEN_FILE"):
        connect(ray_url, None).nodes()


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


def an_order(job: str, script: str, *arguments: str) -> JobRequest:
    command = ("sh", "-c", script, "sh", *arguments)
    return JobRequest(job, command, num_cpus=1, num_gpus=0, metadata={"run_id": "r"})


def when_over(cluster: Cluster, job: str) -> Job:
    return when(cluster, job, lambda found: found.is_over)


def when(cluster: Cluster, job: str, is_so: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        found = cluster.get_job(job)
        if found is not None and is_so(found):
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{job} is {cluster.get_job(job)}")


def _wait_for_head(cluster: RayJobs, folder: Path) -> None:
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        try:
            cluster.nodes()
        except ClusterUnreachable:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError((folder / "log").read_text())


def _end(head: subprocess.Popen[bytes], *, folder: Path) -> None:
    ours = _family(head.pid, folder=folder)
    os.killpg(head.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(ours, timeout=2)
    for process in alive:
        process.kill()
    head.wait(timeout=10)
    psutil.wait_procs(alive, timeout=10)
    assert not [process for process in ours if process.is_running()]


def _family(pid: int, *, folder: Path) -> list[psutil.Process]:
    """The head, its children, and who names our folder on its command line."""
    head = psutil.Process(pid)
    found = {head, *head.children(recursive=True)}
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            found.add(process)
    return list(found)
