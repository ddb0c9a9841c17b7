"""Ray's Jobs API over plain REST, with timeouts; this process needs no ray.

What Ray 2.60 does and its documentation does not say: a second submit of an id is answered 500, so
after every answer but 200 a look decides; after a head's restart a dead job is shown as RUNNING
until somebody asks for its logs (ray#65037); what is used of each node is counted every 5 s,
and not at all in the first seconds of a head.
"""

import shlex
from pathlib import Path
from typing import Any

import httpx

from service.domain.errors import ClusterUnreachable, JobRefused
from service.domain.ports import Job, JobRequest, JobState, Node

_TIMEOUT_S = 10.0
_STOP_WAIT_S = 30
_NODE_ID = "ray.io/node-id"
_GPU_KIND = "acceleratorType:"
"""Ray's resource `accelerator_type:`, as its dashboard spells names."""
_STATES: dict[str, JobState] = {
    "PENDING": "pending",
    "RUNNING": "running",
    "STOPPED": "stopped",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
}


class RayJobs:
    """Implements `ports.Cluster`."""

    def __init__(self, url: str, *, token_file: Path | None, token: str | None = None) -> None:
        """`token` is Ray's own token; without it the file is read at each request, if there is
        one."""
        self._token_file = token_file
        self._token = token
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=False)

    def submit(self, order: JobRequest) -> None:
        """Submit a job; one that is there already stays as it is."""
        response = self._ask("POST", "/api/jobs/", json=_job_from_order(order))
        if response.is_success or self.get_job(order.submission_id) is not None:
            return
        raise JobRefused(order.submission_id, _last_line(response.text))

    def get_job(self, submission_id: str) -> Job | None:
        """The job's state and exit code; none if Ray does not know it."""
        response = self._ask("GET", f"/api/jobs/{submission_id}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return _job_from_facts(_json(response))

    def jobs(self) -> dict[str, Job]:
        """Every job that was submitted to Ray's memory and is still in it."""
        found = _list(self._ask("GET", "/api/jobs/"))
        return {
            str(facts["submission_id"]): _job_from_facts(facts)
            for facts in found
            if facts.get("submission_id")
        }

    def stop(self, submission_id: str) -> None:
        """SIGTERM, and SIGKILL after the job's own wait."""
        self._ask("POST", f"/api/jobs/{submission_id}/stop")

    def logs(self, submission_id: str) -> str:
        """Everything the job has printed."""
        response = self._ask("GET", f"/api/jobs/{submission_id}/logs")
        if response.status_code == httpx.codes.NOT_FOUND:
            return ""
        return str(_json(response).get("logs") or "")

    def nodes(self) -> tuple[Node, ...]:
        """CPUs and GPUs of every node, whole and free."""
        response = self._ask("GET", "/api/cluster_status", params={"format": "0"})
        status = (_json(response).get("data") or {}).get("clusterStatus") or {}
        usage_by_node = (status.get("loadMetricsReport") or {}).get("usageByNode") or {}
        if not usage_by_node:
            raise ClusterUnreachable("Ray has just started and has not counted its nodes yet.")
        return tuple(_node_from_usage(usage, id_=id_) for id_, usage in usage_by_node.items())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, headers=self._headers(), **arguments)
        except httpx.HTTPError as error:
            raise ClusterUnreachable(
                f"Ray does not answer: {type(error).__name__}: {error}"
            ) from error
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ClusterUnreachable(
                "Ray refuses our token; set TANDEM_RAY_TOKEN_FILE to the cluster's own."
            )
        return response

    def _headers(self) -> dict[str, str]:
        return ray_headers(token_file=self._token_file, token=self._token)


def ray_headers(*, token_file: Path | None, token: str | None) -> dict[str, str]:
    """What a request shows to Ray: the token, or that in the file; neither: nothing."""
    if token is None and token_file is not None and token_file.exists():
        token = token_file.read_text(encoding="ascii").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _job_from_order(order: JobRequest) -> dict[str, Any]:
    where = _selector(order)
    return {
        **({"entrypoint_label_selector": where} if where else {}),
        "submission_id": order.submission_id,
        "entrypoint": shlex.join(order.command),
        "entrypoint_num_cpus": order.num_cpus,
        "entrypoint_num_gpus": order.num_gpus,
        "metadata": order.metadata,
        "runtime_env": {
            "env_vars": {
                "RAY_JOB_STOP_SIGNAL": "SIGTERM",
                "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_WAIT_S),
                **order.environment,
            }
        },
    }


def _job_from_facts(facts: dict[str, Any]) -> Job:
    return Job(
        state=_STATES.get(facts.get("status", ""), "running"),
        exit_code=facts.get("driver_exit_code"),
        message=_last_line(facts.get("message") or ""),
        node_id=facts.get("driver_node_id"),
    )


def _selector(order: JobRequest) -> dict[str, str]:
    if order.node_id is not None:
        return {_NODE_ID: order.node_id}
    if order.avoid:
        return {_NODE_ID: f"!in({','.join(sorted(order.avoid))})"}
    return {}


def _node_from_usage(usage: dict[str, list[float]], *, id_: str) -> Node:
    used_cpus, cpus = usage.get("CPU", (0.0, 0.0))
    used_gpus, gpus = usage.get("GPU", (0.0, 0.0))
    return Node(
        total_cpus=cpus,
        total_gpus=gpus,
        free_cpus=cpus - used_cpus,
        free_gpus=gpus - used_gpus,
        id=id_,
        gpu_kind=_gpu_kind(usage),
    )


def _gpu_kind(usage: dict[str, list[float]]) -> str:
    """Ray shows it as a resource of the node, by the name of its first GPU."""
    kinds = (name.removeprefix(_GPU_KIND) for name in usage if name.startswith(_GPU_KIND))
    return next(kinds, "")


def _list(response: httpx.Response) -> list[dict[str, Any]]:
    document = _document(response)
    if not isinstance(document, list):
        raise ClusterUnreachable(f"What answers at {response.url} is not Ray.")
    return document


def _json(response: httpx.Response) -> dict[str, Any]:
    document = _document(response)
    if not isinstance(document, dict):
        raise ClusterUnreachable(f"What answers at {response.url} is not Ray.")
    return document


def _document(response: httpx.Response) -> Any:
    if not response.is_success:
        raise ClusterUnreachable(f"Ray answered {response.status_code}: {_first_line(response)}")
    try:
        return response.json()
    except ValueError:
        return None


def _first_line(response: httpx.Response) -> str:
    return (response.text.strip().splitlines() or [""])[0][:300]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:300]
