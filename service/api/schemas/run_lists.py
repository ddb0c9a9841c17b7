"""Requests and responses of lists of runs."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from configs.protocol.comparison import Verdict
from configs.protocol.failure import FailureReason
from configs.protocol.records import Progress
from configs.spec.base import Contract, Task
from service.api.schemas.base import PageQuery
from service.domain.states import RunState
from service.domain.vocabulary import RunOrder


class RunSummaryView(Contract):
    """A run in a list. `GET /v1/runs/{run_id}` shows the rest: spec, metrics, message, advice."""

    id: str
    name: str
    task: Task
    preset: str | None
    project: str
    dataset: str | None
    """The name of its dataset. None for a report."""

    priority: int
    state: RunState
    attempt: int
    reason: FailureReason | None
    waiting_for: str | None
    progress: Progress | None
    best_map: float | None
    """From 0 to 1. None until the first evaluation."""

    best_epoch: int | None
    baseline_run_id: str | None
    is_baseline_lost: bool
    gain: float | None
    """Best mAP of the run minus best mAP of its baseline, from -1 to 1. None for a run without a
    baseline, and until both have succeeded."""

    verdict: Verdict | None
    """Of the comparison over all seeds. None until a report has compared the run."""

    report_run_id: str | None
    sweep_id: str | None
    trial: int | None
    mlflow_url: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RunPage(Contract):
    """Runs in the order that was asked for. `next_cursor` is None on the last page."""

    items: list[RunSummaryView]
    next_cursor: str | None


class RunQuery(PageQuery):
    """Filters and order of a list of runs."""

    id_prefix: Annotated[
        str | None, Field(max_length=64, description="Only runs whose id starts with it.")
    ] = None
    state: Annotated[
        tuple[RunState, ...], Field(description="Only runs in one of these states.")
    ] = ()
    task: Annotated[
        tuple[Task, ...], Field(description="Only runs of one of these tasks; all by default.")
    ] = ()
    project: Annotated[str | None, Field(description="Only runs of this project.")] = None
    preset: Annotated[str | None, Field(description="Only runs launched from this preset.")] = None
    dataset: Annotated[
        str | None, Field(description="Only runs on the dataset with this name.")
    ] = None
    tag: Annotated[
        str | None, Field(pattern=r"^[^=]+=.*$", description="Only runs with this tag: key=value.")
    ] = None
    sweep: Annotated[str | None, Field(description="Only runs of the sweep with this id.")] = None
    trial: Annotated[
        int | None, Field(ge=0, lt=2**31, description="Only runs of the trial with this number.")
    ] = None
    sort: Annotated[
        RunOrder,
        Field(
            description="`newest`: by the time of the launch, the newest first. `best_map`: by the "
            "best mAP, the highest first; runs without one are left out."
        ),
    ] = "newest"
