"""Runs that train side by side in one process, with one teacher."""

from typing import Annotated

from pydantic import Field

from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.base import Contract, RunId


class PackMember(Contract):
    """One run of a pack; its spec lies in its folder."""

    run_id: RunId
    attempt: Annotated[int, Field(ge=1)]
    run_dir: str
    name: str
    preset: str | None = None
    project: str = DEFAULT_PROJECT


class PackJob(Contract):
    """Everything that the process of a pack is told."""

    id: str
    """The job's: by it a node's processes are told apart."""

    members: Annotated[tuple[PackMember, ...], Field(min_length=1, max_length=64)]
    service_url: str | None = None
    mlflow_url: str | None = None
    stall_timeout_s: Annotated[float, Field(ge=1.0)] = 300.0
