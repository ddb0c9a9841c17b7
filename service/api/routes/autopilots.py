"""Autopilots: launch, list, show and control them."""

from typing import Annotated

from fastapi import Query, Response, status

from service.api.autopilot_views import (
    to_autopilot_summary_view,
    to_autopilot_view,
    to_decision_view,
)
from service.api.deps import CallerDep, ContextDep
from service.api.responses import describe_launch
from service.api.routers import create_router
from service.api.routes.runs import IdempotencyKey
from service.api.schemas.autopilots import (
    AutopilotExtensionRequest,
    AutopilotLaunchRequest,
    AutopilotPage,
    AutopilotQuery,
    AutopilotView,
    DecisionPage,
    DecisionQuery,
)
from service.domain.repositories.autopilots import AutopilotFilter
from service.usecases.autopilots import actions, launch, queries
from service.usecases.idempotency import request_digest
from service.usecases.runs.plan import LaunchRun

router = create_router(tag="autopilots")


@router.post("/autopilots", status_code=status.HTTP_201_CREATED)
def launch_autopilot(
    body: AutopilotLaunchRequest,
    response: Response,
    ctx: ContextDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> AutopilotView:
    """Launch an autopilot: from a dataset and a budget to the best student, with or without a
    teacher."""
    request = _to_launch_autopilot(body)
    autopilot, is_new = launch.launch_autopilot(
        request, key=idempotency_key, caller=caller, ctx=ctx
    )
    describe_launch(response, f"/v1/autopilots/{autopilot.id}", is_new=is_new)
    return to_autopilot_view(queries.get_status(autopilot.id, ctx=ctx))


@router.get("/autopilots")
def list_autopilots(
    ctx: ContextDep, caller: CallerDep, query: Annotated[AutopilotQuery, Query()]
) -> AutopilotPage:
    """Autopilots, newest first."""
    autopilot_filter = AutopilotFilter(
        id_prefix=query.id_prefix,
        phase=query.phase,
        project=query.project,
        before=query.cursor,
        limit=query.limit + 1,
    )
    autopilots = queries.list_autopilots(autopilot_filter, caller=caller, ctx=ctx)
    items = [to_autopilot_summary_view(autopilot) for autopilot in autopilots[: query.limit]]
    has_more = len(autopilots) > query.limit
    return AutopilotPage(items=items, next_cursor=items[-1].id if has_more else None)


@router.get("/autopilots/{autopilot_id}")
def show_autopilot(autopilot_id: str, ctx: ContextDep) -> AutopilotView:
    """One autopilot: its plan, what each stage has cost, and its conclusion."""
    return to_autopilot_view(queries.get_status(autopilot_id, ctx=ctx))


@router.get("/autopilots/{autopilot_id}/decisions")
def list_decisions(
    autopilot_id: str, ctx: ContextDep, query: Annotated[DecisionQuery, Query()]
) -> DecisionPage:
    """What an autopilot has decided, and why, with the runs that its decisions are about."""
    limit = query.limit
    decisions = queries.list_decisions(
        autopilot_id, first=query.cursor + 1, limit=limit + 1, ctx=ctx
    )
    items = [to_decision_view(decision) for decision in decisions[:limit]]
    has_more = len(decisions) > limit
    return DecisionPage(items=items, next_cursor=items[-1].position if has_more else None)


@router.post("/autopilots/{autopilot_id}:pause")
def pause_autopilot(autopilot_id: str, ctx: ContextDep, caller: CallerDep) -> AutopilotView:
    """Pause an autopilot and its runs; the hours of its budget stop."""
    actions.pause_autopilot(autopilot_id, caller=caller, ctx=ctx)
    return to_autopilot_view(queries.get_status(autopilot_id, ctx=ctx))


@router.post("/autopilots/{autopilot_id}:resume")
def resume_autopilot(autopilot_id: str, ctx: ContextDep, caller: CallerDep) -> AutopilotView:
    """Continue a paused autopilot, or begin one that was launched paused."""
    actions.resume_autopilot(autopilot_id, caller=caller, ctx=ctx)
    return to_autopilot_view(queries.get_status(autopilot_id, ctx=ctx))


@router.post("/autopilots/{autopilot_id}:stop")
def stop_autopilot(autopilot_id: str, ctx: ContextDep, caller: CallerDep) -> AutopilotView:
    """Stop an autopilot and its runs; their checkpoints are kept."""
    actions.stop_autopilot(autopilot_id, caller=caller, ctx=ctx)
    return to_autopilot_view(queries.get_status(autopilot_id, ctx=ctx))


@router.post("/autopilots/{autopilot_id}:extend")
def extend_autopilot(
    autopilot_id: str, body: AutopilotExtensionRequest, ctx: ContextDep
) -> AutopilotView:
    """Grant more budget; an autopilot that ran out of it continues."""
    actions.extend_autopilot(autopilot_id, body.budget, ctx=ctx)
    return to_autopilot_view(queries.get_status(autopilot_id, ctx=ctx))


def _to_launch_autopilot(body: AutopilotLaunchRequest) -> launch.LaunchAutopilot:
    teachers = body.teachers
    return launch.LaunchAutopilot(
        base=LaunchRun(preset=body.preset, changes=body.changes, spec=body.spec),
        budget=body.budget,
        teachers=tuple(teachers) if isinstance(teachers, list) else teachers,
        trained_teachers=tuple(body.trained_teachers),
        students=tuple(body.students),
        methods=tuple(body.methods),
        schedules=tuple(body.schedules),
        max_latency_ms=body.max_latency_ms,
        formats=body.formats,
        name=body.name,
        project=body.project,
        priority=body.priority,
        is_paused=body.paused,
        digest=request_digest(f"autopilot {body.model_dump_json()}".encode()),
    )
