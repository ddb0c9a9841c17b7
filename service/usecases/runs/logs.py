"""Logs of runs: stored as workers upload them, read, searched, and followed.

No function holds more of a log in memory than one part of it, or the lines that it returns.
"""

import codecs
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import structlog

from configs.protocol.log_limits import describe_omission
from configs.protocol.names import attempt_log_path
from service.domain.errors.requests import AttemptNotFound
from service.domain.errors.systems import ClusterFault, Unreachable
from service.domain.ports import LogPart
from service.domain.runs import Run
from service.usecases.context import Context
from service.usecases.runs.queries import get_run

_READ_BYTES = 256 * 1024
_MAX_TAIL_BYTES = 1024 * 1024
_MAX_LINE_LENGTH = 64 * 1024
"""A longer line is searched piece by piece."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LogPosition:
    """A position in the logs of a run, from which a reader may resume."""

    attempt: int = 1
    offset: int = 0
    """Offset in bytes within the log of the attempt."""


@dataclass(frozen=True)
class LogChunk:
    """A part of a log, and the position after it."""

    text: str
    end: LogPosition


@dataclass(frozen=True)
class LogState:
    """How far the logs of a run are; a reader who has read as far has nothing to read."""

    attempt: int
    is_over: bool
    size_bytes: int
    """Of the log of the attempt."""


def append_log_chunk(
    run_id: str,
    attempt: int,
    *,
    offset: int,
    content: bytes,
    after_gap: bool = False,
    ctx: Context,
) -> int:
    """Store a part of an attempt's log; returns the offset of the next expected byte.

    `after_gap`: the worker left out what is between the stored part and `offset`. Raises
    `AttemptNotFound`.
    """
    if attempt > get_run(run_id, ctx=ctx).attempt:
        raise AttemptNotFound(run_id, attempt)
    end = ctx.logs.append(run_id, attempt, offset=offset, content=content, after_gap=after_gap)
    ctx.counters.count("log_bytes", len(content))
    return end


def store_remaining_log(run_id: str, attempt: int, *, ctx: Context) -> None:
    """Store the part of a finished attempt's log that its worker did not upload: from the run's
    folder, else from Ray.

    Includes the last lines of a killed process, since workers flush each line. Errors of the file
    system and of Ray are logged, not raised: a missing log must not keep a run from ending.
    """
    try:
        end = _store_log_of_folder(run_id, attempt, ctx=ctx)
        if end == 0:
            content = ctx.cluster.logs(f"{run_id}-a{attempt}").encode()
            ctx.logs.append(run_id, attempt, offset=0, content=content)
    except (OSError, Unreachable, ClusterFault) as error:
        log.warning("log.not_stored", run_id=run_id, attempt=attempt, reason=str(error))


def _store_log_of_folder(run_id: str, attempt: int, *, ctx: Context) -> int:
    """Store the rest of the log in the run's folder; returns the size of what is stored then."""
    file = ctx.files.run_dir(run_id) / attempt_log_path(attempt)
    end = ctx.logs.size_bytes(run_id, attempt)
    while (part := _read_file(file, end, ctx=ctx)).content:
        after_gap = part.offset > end
        previous_end, end = (
            end,
            ctx.logs.append(
                run_id, attempt, offset=part.offset, content=part.content, after_gap=after_gap
            ),
        )
        if end <= previous_end:
            break
    return end


def iter_log(
    run_id: str, *, attempt: int | None = None, offset: int = 0, ctx: Context
) -> Iterator[str]:
    """Logs of all attempts, or of one attempt from a byte offset, part by part.

    `RunNotFound` is raised at once, not by the iterator.
    """
    run = get_run(run_id, ctx=ctx)
    if attempt is not None:
        return _iter_attempt(run, attempt, offset, ctx=ctx)
    numbers = range(1, run.attempt + 1)
    return (text for number in numbers for text in _iter_attempt(run, number, 0, ctx=ctx))


def read_last_lines(
    run_id: str, num_lines: int, *, attempt: int | None = None, ctx: Context
) -> str:
    """The last lines over all attempts, or of one attempt; at most 1 MiB of text."""
    run = get_run(run_id, ctx=ctx)
    numbers = range(run.attempt, 0, -1) if attempt is None else [attempt]
    lines: list[str] = []
    remaining_bytes = _MAX_TAIL_BYTES
    for number in numbers:
        offset = max(0, _size_bytes(run.id, number, ctx=ctx) - remaining_bytes)
        text = "".join(_iter_attempt(run, number, offset, ctx=ctx))
        remaining_bytes -= len(text.encode())
        lines = [*text.splitlines(keepends=True), *lines]
        if len(lines) >= num_lines or remaining_bytes <= 0:
            break
    return "".join(lines[-num_lines:])


def search_log(
    run_id: str, query: str, *, attempt: int | None = None, ctx: Context
) -> Iterator[str]:
    """Lines that contain a text, ignoring case, as `attempt:line: text`.

    `RunNotFound` is raised at once, not by the iterator.
    """
    run = get_run(run_id, ctx=ctx)
    numbers = range(1, run.attempt + 1) if attempt is None else [attempt]
    query = query.casefold()
    return (
        f"{number}:{line_number}: {line}\n"
        for number in numbers
        for line_number, line in _iter_lines(_iter_attempt(run, number, 0, ctx=ctx))
        if query in line.casefold()
    )


def follow_logs(
    run_id: str, *, since: LogPosition = LogPosition(), ctx: Context
) -> Iterator[LogChunk | None]:
    """Yield parts of the logs as they grow until the run is over; `None` while nothing is new."""
    position = since
    while True:
        # The state is read before the log: otherwise lines written in between would be lost.
        run = get_run(run_id, ctx=ctx)
        is_final = run.is_over or run.attempt > position.attempt
        part = LogPart(position.offset, b"")
        if run.attempt:
            part = _read(run, position.attempt, position.offset, ctx=ctx)
        complete = (
            part.content
            if is_final and len(part.content) < _READ_BYTES
            else _trim_partial_character(part.content)
        )
        if complete:
            omission = _describe_gap(position.offset, part.offset)
            position = LogPosition(position.attempt, part.offset + len(complete))
            yield LogChunk(omission + complete.decode(errors="replace"), position)
        elif run.attempt > position.attempt:
            position = LogPosition(position.attempt + 1)
        elif run.is_over:
            return
        else:
            yield None


def get_log_states(run_ids: Collection[str], *, ctx: Context) -> dict[str, LogState]:
    """The states of the logs of runs, in one query; unknown runs are omitted."""
    with ctx.store.transaction() as uow:
        newest = uow.attempts.newest_of_runs(run_ids)
    return {
        run_id: LogState(item.number, item.is_run_over, _size_bytes(run_id, item.number, ctx=ctx))
        for run_id, item in newest.items()
    }


def _iter_attempt(run: Run, number: int, offset: int, *, ctx: Context) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while (part := _read(run, number, offset, ctx=ctx)).content:
        yield _describe_gap(offset, part.offset) + decoder.decode(part.content)
        offset = part.offset + len(part.content)
    if incomplete := decoder.decode(b"", final=True):
        yield incomplete


def _iter_lines(texts: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; pieces of a very long line have the same number."""
    numbers = count(1)
    number, pending = next(numbers), ""
    for text in texts:
        *lines, pending = (pending + text).split("\n")
        for line in lines:
            yield number, line
            number = next(numbers)
        if len(pending) > _MAX_LINE_LENGTH:
            yield number, pending
            pending = ""
    if pending:
        yield number, pending


def _size_bytes(run_id: str, attempt: int, *, ctx: Context) -> int:
    file = ctx.files.run_dir(run_id) / attempt_log_path(attempt)
    return max(ctx.logs.size_bytes(run_id, attempt), ctx.files.length_bytes(file))


def _read(run: Run, number: int, offset: int, *, ctx: Context) -> LogPart:
    """Uploaded bytes first, then bytes that only the run's folder has."""
    part = ctx.logs.read(run.id, number, offset=offset, limit=_READ_BYTES)
    if part.content:
        return part
    return _read_file(ctx.files.run_dir(run.id) / attempt_log_path(number), offset, ctx=ctx)


def _read_file(file: Path, offset: int, *, ctx: Context) -> LogPart:
    size_bytes = ctx.files.length_bytes(file)
    offset = ctx.logs.limits.skip_omitted(offset, size_bytes=size_bytes)
    return LogPart(offset, ctx.files.part(file, offset=offset, limit=_READ_BYTES))


def _describe_gap(offset: int, next_offset: int) -> str:
    return f"\n{describe_omission(next_offset - offset)}" if next_offset > offset else ""


def _trim_partial_character(content: bytes) -> bytes:
    """Drop an incomplete UTF-8 character at the end."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(content)
    incomplete, _ = decoder.getstate()
    return content[: len(content) - len(incomplete)]
