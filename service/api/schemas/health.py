"""Responses of the health endpoints."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from configs.spec.base import Contract
from service.domain.states import RunState


class CheckView(Contract):
    """One thing that the service needs."""

    name: str
    ok: bool
    detail: str
    since: datetime


class HealthView(Contract):
    """Whether the service and what it needs answer."""

    status: Literal["ready", "degraded", "unready"]
    ray: bool | None = None
    """None, and nothing below: who asked showed no token."""

    mlflow: bool | None = None
    checks: list[CheckView] = Field(default_factory=list)
    runs_by_state: dict[RunState, int] = Field(default_factory=dict)
