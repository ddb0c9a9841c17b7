"""Endpoints of workers: deliveries of records, log chunks, finished attempts."""

from typing import Annotated

from fastapi import Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import ConfigDict, Field

from configs.protocol.names import LOG_CHUNK_BYTES
from configs.protocol.records import Delivery, FinishedAttempts, LogReceipt, NodeAttempts, Receipt
from service.api.deps import ContextDep
from service.api.responses import make_json_response
from service.api.routers import create_router
from service.domain.errors.requests import LogChunkTooLarge
from service.usecases.attempts import records
from service.usecases.attempts.records import list_finished_attempts
from service.usecases.runs import logs

router = create_router(tag=None)

AttemptNumber = Annotated[int, Path(ge=1, le=999_999)]


class AttemptsQuery(NodeAttempts):
    """The attempts of a node, bounded in number and length; the worker may be newer."""

    model_config = ConfigDict(extra="ignore")

    attempts: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=1000)]


@router.post("/runs/{run_id}/attempts/{number}/deliveries", response_model=Receipt)
def receive_delivery(
    run_id: str, number: AttemptNumber, body: Delivery, ctx: ContextDep
) -> Response:
    """Store the records of a worker."""
    return make_json_response(records.receive_delivery(run_id, number, body, ctx=ctx))


@router.post("/runs/{run_id}/attempts/{number}/log")
async def receive_log(
    run_id: str,
    number: AttemptNumber,
    request: Request,
    ctx: ContextDep,
    offset: Annotated[int, Query(ge=0, lt=10**15)] = 0,
    after_gap: bool = False,
) -> LogReceipt:
    """Store a chunk of a worker's log. `after_gap`: the worker left out the part before it."""
    content = await request.body()
    if len(content) > LOG_CHUNK_BYTES:
        raise LogChunkTooLarge(LOG_CHUNK_BYTES)
    end = await run_in_threadpool(
        logs.append_log_chunk,
        run_id,
        number,
        offset=offset,
        content=content,
        after_gap=after_gap,
        ctx=ctx,
    )
    return LogReceipt(next=end)


@router.post("/attempts:over")
def filter_finished_attempts(body: AttemptsQuery, ctx: ContextDep) -> FinishedAttempts:
    """The attempts among those with processes on a node that are finished."""
    return FinishedAttempts(finished=tuple(list_finished_attempts(body.attempts, ctx=ctx)))
