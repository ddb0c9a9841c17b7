"""Ray's Jobs API over plain REST, with timeouts; this process needs no ray.

Undocumented behavior of Ray 2.60: a second submission with the same id returns 500, so after every
failed submission the job is looked up; after a restart of the head a dead job is shown as RUNNING
until its logs are requested (ray#65037); usage of nodes is updated every 5 s, and is missing in the
first seconds of a head.
"""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from configs.http_access import client_options
from service.adapters.recent_answer import RecentAnswer
from service.domain.errors.systems import ClusterFault, ClusterUnreachable, JobRefused
from service.domain.ports import Job, JobRequest, JobState, Node

_TIMEOUT_S = 10.0
_STOP_WAIT_S = 30
_AWAY = frozenset(
    {
        httpx.codes.BAD_GATEWAY,
        httpx.codes.SERVICE_UNAVAILABLE,
        httpx.codes.GATEWAY_TIMEOUT,
    }
)
"""A proxy's answers for a server that is away. Ray's own errors may concern one job."""

_NODES_MAX_AGE_S = 1.0
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
        """`token` is Ray's own token; if it is `None`, an existing `token_file` is read at each
        request."""
        self._token_file = token_file
        self._token = token
        self._client = httpx.Client(
            base_url=url, timeout=_TIMEOUT_S, **client_options(url, within_cluster=True)
        )
        self._recent_nodes = RecentAnswer(self.nodes, max_age_s=_NODES_MAX_AGE_S)

    def submit(self, request: JobRequest) -> None:
        response = self._request("POST", "/api/jobs/", json=_job_from_request(request))
        if response.is_success or self.get_job(request.submission_id) is not None:
            return
        raise JobRefused(request.submission_id, _last_line(response.text))

    def get_job(self, submission_id: str) -> Job | None:
        response = self._request("GET", f"/api/jobs/{submission_id}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return _parse_job(_parse_dict(response))

    def jobs(self) -> dict[str, Job]:
        documents = _parse_list(self._request("GET", "/api/jobs/"))
        return {
            str(document["submission_id"]): _parse_job(document)
            for document in documents
            if document.get("submission_id")
        }

    def stop(self, submission_id: str) -> None:
        self._request("POST", f"/api/jobs/{submission_id}/stop")

    def delete(self, submission_id: str) -> None:
        self._request("DELETE", f"/api/jobs/{submission_id}")

    def logs(self, submission_id: str) -> str:
        response = self._request("GET", f"/api/jobs/{submission_id}/logs")
        if response.status_code == httpx.codes.NOT_FOUND:
            return ""
        return str(_parse_dict(response).get("logs") or "")

    def nodes(self) -> tuple[Node, ...]:
        response = self._request("GET", "/api/cluster_status", params={"format": "0"})
        try:
            document = _parse_dict(response)
        except ClusterFault as error:  # without its nodes, the cluster cannot be used
            raise ClusterUnreachable(str(error)) from error
        status = (document.get("data") or {}).get("clusterStatus") or {}
        usage_by_node = (status.get("loadMetricsReport") or {}).get("usageByNode") or {}
        if not usage_by_node:
            raise ClusterUnreachable("Ray has just started and does not list its nodes yet.")
        return tuple(_node_from_usage(usage, id_=id_) for id_, usage in usage_by_node.items())

    def recent_nodes(self) -> tuple[Node, ...]:
        return self._recent_nodes.get()

    def close(self) -> None:
        self._client.close()

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, headers=self._headers(), **arguments)
        except httpx.HTTPError as error:
            raise ClusterUnreachable(
                f"Ray does not answer: {type(error).__name__}: {error}"
            ) from error
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ClusterUnreachable(
                "Ray rejects the token; set TANDEM_RAY_TOKEN_FILE to the cluster's token file."
            )
        if response.status_code in _AWAY:
            raise ClusterUnreachable(_describe_error(response))
        return response

    def _headers(self) -> dict[str, str]:
        return ray_headers(token_file=self._token_file, token=self._token)


def ray_headers(*, token_file: Path | None, token: str | None) -> dict[str, str]:
    """The Authorization header with `token`, else with the token in the file, if it exists."""
    if token is None and token_file is not None and token_file.exists():
        token = token_file.read_text(encoding="ascii").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _job_from_request(request: JobRequest) -> dict[str, Any]:
    selector = _selector(request)
    return {
        **({"entrypoint_label_selector": selector} if selector else {}),
        "submission_id": request.submission_id,
        "entrypoint": shlex.join(request.command),
        "entrypoint_num_cpus": request.num_cpus,
        "entrypoint_num_gpus": request.num_gpus,
        "metadata": request.metadata,
        "runtime_env": {
            "env_vars": {
                "RAY_JOB_STOP_SIGNAL": "SIGTERM",
                "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_WAIT_S),
                **request.environment,
            }
        },
    }


def _parse_job(document: dict[str, Any]) -> Job:
    return Job(
        state=_STATES.get(document.get("status", ""), "running"),
        exit_code=document.get("driver_exit_code"),
        message=_last_line(document.get("message") or ""),
        node_id=document.get("driver_node_id"),
        ended_at=_parse_time(document.get("end_time")),
    )


def _parse_time(milliseconds: Any) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _selector(request: JobRequest) -> dict[str, str]:
    if request.node_id is not None:
        return {_NODE_ID: request.node_id}
    if request.avoid:
        return {_NODE_ID: f"!in({','.join(sorted(request.avoid))})"}
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
    """The model of a node's first GPU, which Ray lists as a resource; empty without one."""
    kinds = (name.removeprefix(_GPU_KIND) for name in usage if name.startswith(_GPU_KIND))
    return next(kinds, "")


def _parse_list(response: httpx.Response) -> list[dict[str, Any]]:
    document = _parse_body(response)
    if not isinstance(document, list):
        raise ClusterUnreachable(f"What answers at {response.url} is not Ray.")
    return document


def _parse_dict(response: httpx.Response) -> dict[str, Any]:
    document = _parse_body(response)
    if not isinstance(document, dict):
        raise ClusterUnreachable(f"What answers at {response.url} is not Ray.")
    return document


def _parse_body(response: httpx.Response) -> Any:
    if not response.is_success:
        raise ClusterFault(_describe_error(response))
    try:
        return response.json()
    except ValueError:
        return None


def _describe_error(response: httpx.Response) -> str:
    first_line = (response.text.strip().splitlines() or [""])[0]
    return f"Ray answered {response.status_code}: {first_line[:300]}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:300]
