"""What workers bring: records, pieces of their log; and what they ask. Not for people."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from configs.protocol.names import LOG_CHUNK_BYTES
from configs.protocol.records import AttemptsHere, AttemptsOver, Delivery, LogReceipt, Receipt
from service.api.deps import WorldDep
from service.domain.errors import PieceTooLarge
from service.usecases.attempts import records
from service.usecases.attempts.records import attempts_over
from service.usecases.runs import logs

router = APIRouter(prefix="/v1", include_in_schema=False)


class AttemptsAsked(AttemptsHere):
    """No more of them, and no longer names, than one answer is for."""

    attempts: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=1000)]


@router.post("/runs/{run_id}/attempts/{number}/deliveries")
def receive_delivery(run_id: str, number: int, body: Delivery, world: WorldDep) -> Receipt:
    """Take a worker's records."""
    return records.receive_delivery(run_id, number, body, world=world)


@router.post("/runs/{run_id}/attempts/{number}/log")
async def receive_log(
    run_id: str,
    number: Annotated[int, Path(ge=1)],
    request: Request,
    world: WorldDep,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> LogReceipt:
    """Take a piece of a worker's log."""
    content = await request.body()
    if len(content) > LOG_CHUNK_BYTES:
        raise PieceTooLarge(LOG_CHUNK_BYTES)
    end = await run_in_threadpool(
        logs.take_piece, run_id, number, offset=offset, content=content, world=world
    )
    return LogReceipt(next=end)


@router.post("/attempts:over")
def list_attempts_over(body: AttemptsAsked, world: WorldDep) -> AttemptsOver:
    """Which of the attempts that have processes on a node are over."""
    return AttemptsOver(over=tuple(attempts_over(body.attempts, world=world)))
