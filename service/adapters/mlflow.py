"""MLflow's REST API, as little as the control plane needs: find runs, end and group them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx

from configs.protocol.names import Tag, experiment_name
from service.domain.errors import TrackerRefused, TrackerUnreachable
from service.domain.ports import TrackerStatus

_TIMEOUT_S = 10.0
_API = "/api/2.0/mlflow"


class MlflowTracker:
    """Implements `ports.Tracker`."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=False)

    def find(self, run_id: str, *, project: str) -> str | None:
        """The MLflow run that carries our run's id."""
        return self._find(Tag.RUN_ID, run_id, project=project)

    def find_sweep(self, sweep_id: str, *, project: str) -> str | None:
        """The MLflow run that carries our sweep's id."""
        return self._find(Tag.SWEEP_ID, sweep_id, project=project)

    def make_run(self, name: str, *, project: str, tags: Mapping[str, str], at: datetime) -> str:
        """A new run of a project's experiment, which is made if it is not there."""
        body = {
            "experiment_id": self._experiment(project) or self._new_experiment(project),
            "run_name": name,
            "start_time": _milliseconds(at),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        made = self._ask("POST", "/runs/create", json=body)
        if made is None:
            raise TrackerUnreachable("MLflow lost the experiment while a run was made in it.")
        return str(made["run"]["info"]["run_id"])

    def set_tag(self, mlflow_run_id: str, key: str, value: str) -> None:
        """Give a run a tag."""
        body = {"run_id": mlflow_run_id, "key": key, "value": value}
        self._change("/runs/set-tag", body)

    def log_metrics(self, mlflow_run_id: str, values: Mapping[str, float], *, at: datetime) -> None:
        """Log values to a run, as of a moment."""
        metrics = [
            {"key": key, "value": value, "timestamp": _milliseconds(at), "step": 0}
            for key, value in values.items()
        ]
        self._change("/runs/log-batch", {"run_id": mlflow_run_id, "metrics": metrics})

    def status(self, mlflow_run_id: str) -> TrackerStatus | None:
        """The status of a run that MLflow knows and that was not deleted there."""
        found = self._ask("GET", "/runs/get", params={"run_id": mlflow_run_id})
        if found is None or found["run"]["info"].get("lifecycle_stage") == "deleted":
            return None
        status: TrackerStatus = found["run"]["info"]["status"]
        return status

    def set_status(self, mlflow_run_id: str, status: TrackerStatus, *, at: datetime) -> None:
        """Show a status, and the end with a status that is one."""
        body: dict[str, Any] = {"run_id": mlflow_run_id, "status": status}
        if status != "RUNNING":
            body["end_time"] = _milliseconds(at)
        self._ask("POST", "/runs/update", json=body)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _find(self, tag: Tag, value: str, *, project: str) -> str | None:
        experiment_id = self._experiment(project)
        if experiment_id is None:
            return None
        found = self._ask(
            "POST",
            "/runs/search",
            json={
                "experiment_ids": [experiment_id],
                "filter": f"tags.`{tag}` = '{value}'",
                "max_results": 1,
                "order_by": ["attributes.start_time ASC"],
            },
        )
        runs = (found or {}).get("runs", [])
        return str(runs[0]["info"]["run_id"]) if runs else None

    def _experiment(self, project: str) -> str | None:
        name = experiment_name(project)
        found = self._ask("GET", "/experiments/get-by-name", params={"experiment_name": name})
        return None if found is None else str(found["experiment"]["experiment_id"])

    def _new_experiment(self, project: str) -> str:
        made = self._ask("POST", "/experiments/create", json={"name": experiment_name(project)})
        if made is None:
            raise TrackerUnreachable("MLflow does not make experiments.")
        return str(made["experiment_id"])

    def _change(self, path: str, body: dict[str, Any]) -> None:
        if self._ask("POST", path, json=body) is None:
            raise TrackerRefused(f"It does not know the run {body['run_id']}.")

    def _ask(self, method: str, path: str, **arguments: Any) -> dict[str, Any] | None:
        try:
            response = self._client.request(method, _API + path, **arguments)
        except httpx.HTTPError as error:
            raise TrackerUnreachable(
                f"MLflow does not answer: {type(error).__name__}: {error}"
            ) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.status_code == httpx.codes.BAD_REQUEST:
            # A run that was deleted in MLflow's own pages is answered so.
            raise TrackerRefused(response.text[:300])
        if not response.is_success:
            raise TrackerUnreachable(
                f"MLflow answered {response.status_code}: {response.text[:300]}"
            )
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise TrackerUnreachable(f"What answers at {response.url} is not MLflow.")
        return document


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
