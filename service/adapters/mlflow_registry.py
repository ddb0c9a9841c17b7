"""MLflow's model registry: one version for each exported run, and an alias that moves."""

from collections.abc import Callable
from typing import Any

from service.domain.errors.systems import TrackerRefused, TrackerUnreachable
from service.domain.ports import ModelRelease

Request = Callable[..., dict[str, Any] | None]
"""Sends a request with method, path below MLflow's API, and httpx's arguments. None for what MLflow
does not know."""


_OWNER = {"key": "tandem.owner", "value": "autopilot"}
"""The tag of models that Tandem has created: it adds versions to no others."""


def register_version(request: Request, release: ModelRelease) -> str:
    """The version of a release, after every step that is still missing: any of them may be the
    last one before the service is killed.

    Raises `TrackerRefused` if somebody else has created the model of this name.
    """
    answer = request("GET", "/registered-models/get", params={"name": release.name})
    if answer is None:
        body = {"name": release.name, "tags": [_OWNER]}
        _require(request("POST", "/registered-models/create", json=body))
    elif _OWNER not in answer["registered_model"].get("tags", []):
        raise TrackerRefused(
            f"the model {release.name} of its registry was not created by an autopilot, and its "
            "versions stay as they are; give the next autopilot another name"
        )
    version = _find_version(request, release) or _create_version(request, release)
    alias = {"name": release.name, "alias": release.alias, "version": version}
    _require(request("POST", "/registered-models/alias", json=alias))
    return version


def _find_version(request: Request, release: ModelRelease) -> str | None:
    """The version that an earlier call has created; a run has at most one."""
    condition = f"name='{release.name}' and run_id='{release.mlflow_run_id}'"
    parameters = {"filter": condition, "max_results": 1}
    answer = request("GET", "/model-versions/search", params=parameters)
    versions = (answer or {}).get("model_versions", [])
    return str(versions[0]["version"]) if versions else None


def _create_version(request: Request, release: ModelRelease) -> str:
    body = {
        "name": release.name,
        "source": f"runs:/{release.mlflow_run_id}/{release.path}",
        "run_id": release.mlflow_run_id,
        "description": release.description,
        "tags": [{"key": key, "value": value} for key, value in release.tags.items()],
    }
    answer = _require(request("POST", "/model-versions/create", json=body))
    return str(answer["model_version"]["version"])


def _require(answer: dict[str, Any] | None) -> dict[str, Any]:
    """Without an answer, somebody has deleted the model between two steps."""
    if answer is None:
        raise TrackerUnreachable("MLflow lost the registered model while a version was added.")
    return answer
