"""The part of MLflow's REST API that the control plane needs: find, finish and nest runs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx

from configs.mlflow_access import mlflow_client_options
from configs.protocol.names import Tag, experiment_name
from service.adapters.mlflow_registry import register_version
from service.domain.errors.systems import TrackerRefused, TrackerUnreachable
from service.domain.ports import ModelRelease, TrackerExperiment, TrackerStatus

_TIMEOUT_S = 10.0
_API = "/api/2.0/mlflow"


class MlflowTracker:
    """Implements `ports.Tracker`."""

    def __init__(self, url: str) -> None:
        """Raises `AccessRefused` for a proxy, certificate or credentials that cannot be used."""
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_S, **mlflow_client_options(url))

    def find(self, run_id: str, *, project: str) -> str | None:
        return self._find_run(Tag.RUN_ID, run_id, project=project)

    def find_sweep(self, sweep_id: str, *, project: str) -> str | None:
        return self._find_run(Tag.SWEEP_ID, sweep_id, project=project)

    def make_run(self, name: str, *, project: str, tags: Mapping[str, str], at: datetime) -> str:
        """Create a run in a project's experiment, and the experiment if it does not exist."""
        body = {
            "experiment_id": self.find_or_create_experiment(project).id,
            "run_name": name,
            "start_time": _milliseconds(at),
            "tags": _to_entries(tags),
        }
        created = self._request("POST", "/runs/create", json=body)
        if created is None:
            raise TrackerUnreachable("MLflow lost the experiment while creating a run in it.")
        return str(created["run"]["info"]["run_id"])

    def set_tags(self, mlflow_run_id: str, tags: Mapping[str, str]) -> None:
        body = {"run_id": mlflow_run_id, "tags": _to_entries(tags)}
        self._update_run("/runs/log-batch", body)

    def find_or_create_experiment(self, project: str) -> TrackerExperiment:
        experiment = self._find_experiment(project)
        if experiment is None:
            return TrackerExperiment(self._create_experiment(project), tags={})
        return experiment

    def set_experiment_tags(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            body = {"experiment_id": experiment_id, "key": key, "value": value}
            if self._request("POST", "/experiments/set-experiment-tag", json=body) is None:
                raise TrackerRefused(f"MLflow has no experiment {experiment_id}.")

    def log_metrics(self, mlflow_run_id: str, values: Mapping[str, float], *, at: datetime) -> None:
        metrics = [
            {"key": key, "value": value, "timestamp": _milliseconds(at), "step": 0}
            for key, value in values.items()
        ]
        self._update_run("/runs/log-batch", {"run_id": mlflow_run_id, "metrics": metrics})

    def status(self, mlflow_run_id: str) -> TrackerStatus | None:
        """The status of a run; `None` if it is unknown or deleted."""
        response = self._request("GET", "/runs/get", params={"run_id": mlflow_run_id})
        if response is None or response["run"]["info"].get("lifecycle_stage") == "deleted":
            return None
        status: TrackerStatus = response["run"]["info"]["status"]
        return status

    def set_status(self, mlflow_run_id: str, status: TrackerStatus, *, at: datetime) -> None:
        """Set a status, and the end time unless it is `RUNNING`."""
        body: dict[str, Any] = {"run_id": mlflow_run_id, "status": status}
        if status != "RUNNING":
            body["end_time"] = _milliseconds(at)
        self._request("POST", "/runs/update", json=body)

    def register_model(self, release: ModelRelease) -> str:
        return register_version(self._request, release)

    def close(self) -> None:
        self._client.close()

    def _find_run(self, tag: Tag, value: str, *, project: str) -> str | None:
        experiment = self._find_experiment(project)
        if experiment is None:
            return None
        response = self._request(
            "POST",
            "/runs/search",
            json={
                "experiment_ids": [experiment.id],
                "filter": f"tags.`{tag}` = '{value}'",
                "max_results": 1,
                "order_by": ["attributes.start_time ASC"],
            },
        )
        runs = (response or {}).get("runs", [])
        return str(runs[0]["info"]["run_id"]) if runs else None

    def _find_experiment(self, project: str) -> TrackerExperiment | None:
        name = experiment_name(project)
        response = self._request(
            "GET", "/experiments/get-by-name", params={"experiment_name": name}
        )
        if response is None:
            return None
        experiment = response["experiment"]
        tags = {tag["key"]: tag["value"] for tag in experiment.get("tags", [])}
        return TrackerExperiment(str(experiment["experiment_id"]), tags)

    def _create_experiment(self, project: str) -> str:
        created = self._request(
            "POST", "/experiments/create", json={"name": experiment_name(project)}
        )
        if created is None:
            raise TrackerUnreachable("MLflow did not create an experiment.")
        return str(created["experiment_id"])

    def _update_run(self, path: str, body: dict[str, Any]) -> None:
        if self._request("POST", path, json=body) is None:
            raise TrackerRefused(f"MLflow has no run {body['run_id']}.")

    def _request(self, method: str, path: str, **arguments: Any) -> dict[str, Any] | None:
        try:
            response = self._client.request(method, _API + path, **arguments)
        except httpx.HTTPError as error:
            raise TrackerUnreachable(
                f"MLflow does not answer: {type(error).__name__}: {error}"
            ) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.status_code == httpx.codes.BAD_REQUEST:
            # MLflow answers requests for deleted runs with this status.
            raise TrackerRefused(response.text[:300])
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise TrackerUnreachable(
                f"MLflow answered {response.status_code}: set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, where the service starts."
            )
        if not response.is_success:
            raise TrackerUnreachable(
                f"MLflow answered {response.status_code}: {response.text[:300]}"
            )
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise TrackerUnreachable(f"The server at {response.url} is not MLflow.")
        return document


def _to_entries(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
