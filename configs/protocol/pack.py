"""The job file of a pack: runs that train in one process and share one teacher."""

from typing import Annotated

from pydantic import Field

from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.base import Contract, RunId


class PackMember(Contract):
    """One run of a pack; its spec is in its folder."""

    run_id: RunId
    attempt: Annotated[int, Field(ge=1)]
    run_dir: str
    name: str
    preset: str | None = None
    project: str = DEFAULT_PROJECT


class PackJob(Contract):
    """The input of the process that trains a pack."""

    id: str
    """Submission id of the job, which identifies its processes on a node."""

    members: Annotated[tuple[PackMember, ...], Field(min_length=1, max_length=64)]
    service_url: str | None = None
    mlflow_url: str | None = None
    stall_timeout_s: Annotated[float, Field(ge=1.0)] = 300.0
