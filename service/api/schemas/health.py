"""Responses of the health endpoints."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from configs.spec.base import Contract
from service.domain.states import RunState


class CheckView(Contract):
    """The state of one dependency of the service."""

    name: str
    ok: bool
    detail: str
    since: datetime


class HealthView(Contract):
    """The readiness of the service and of its dependencies."""

    status: Literal["ready", "degraded", "unready"]
    ray: bool | None = None
    """Whether Ray answers. None, like all fields below, for callers without a token."""

    mlflow: bool | None = None
    mlflow_url: str | None = None
    """MLflow's page with the runs of the default project; its list of experiments until the service
    has found the one of this project."""

    checks: list[CheckView] = Field(default_factory=list)
    runs_by_state: dict[RunState, int] = Field(default_factory=dict)
