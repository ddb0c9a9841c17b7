"""MLflow's REST API, as little as the control plane needs: find a run, say how it ended."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx

from configs.spec import Tag, experiment_of
from service.domain.errors import TrackerRefused, TrackerUnreachable
from service.domain.tracking import TrackerStatus

_TIMEOUT_S = 10.0
_API = "/api/2.0/mlflow"


class Mlflow:
    """Implements `ports.Tracker`."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=False)

    def find(self, run_id: str, *, project: str) -> str | None:
        """The MLflow run that carries our run's id."""
        experiment = self._ask(
            "GET", "/experiments/get-by-name", params={"experiment_name": experiment_of(project)}
        )
        if experiment is None:
            return None
        found = self._ask(
            "POST",
            "/runs/search",
            json={
                "experiment_ids": [experiment["experiment"]["experiment_id"]],
                "filter": f"tags.`{Tag.RUN_ID}` = '{run_id}'",
                "max_results": 1,
                "order_by": ["attributes.start_time ASC"],
            },
        )
        runs = (found or {}).get("runs", [])
        return str(runs[0]["info"]["run_id"]) if runs else None

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
            body["end_time"] = round(at.timestamp() * 1000)
        self._ask("POST", "/runs/update", json=body)

    def log_batch(
        self,
        mlflow_run_id: str,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        at: datetime,
    ) -> None:
        """Show numbers and tags in one request; MLflow keeps a number of one time once."""
        at_ms = round(at.timestamp() * 1000)
        body = {
            "run_id": mlflow_run_id,
            "metrics": [
                {"key": key, "value": value, "timestamp": at_ms, "step": 0}
                for key, value in metrics.items()
            ],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        if self._ask("POST", "/runs/log-batch", json=body) is None:
            raise TrackerRefused(f"it has no run {mlflow_run_id}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

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
