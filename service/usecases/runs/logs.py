"""Logs of runs: stored as workers upload them, read, searched, and followed."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from configs.protocol.names import attempt_log_path
from service.domain.errors import Unreachable
from service.domain.runs import Run
from service.usecases.context import Context
from service.usecases.runs.queries import get_run

_READ_BYTES = 256 * 1024
_MAX_TAIL_BYTES = 1024 * 1024

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


def append_log_chunk(
    run_id: str, attempt: int, *, offset: int, content: bytes, ctx: Context
) -> int:
    """Store a part of an attempt's log; returns the offset of the next expected byte."""
    get_run(run_id, ctx=ctx)
    end = ctx.logs.append(run_id, attempt, offset=offset, content=content)
    ctx.counters.count("log_bytes", len(content))
    return end


def store_remaining_log(run_id: str, attempt: int, *, ctx: Context) -> None:
    """Store the part of a finished attempt's log that its worker did not upload: from the run's
    folder, else from Ray.

    Includes the last lines of a killed process, since workers flush each line. Errors of the file
    system and of Ray are logged, not raised: a missing log must not keep a run from ending.
    """
    try:
        end = ctx.logs.size_bytes(run_id, attempt)
        remaining = ctx.files.text(
            ctx.files.run_dir(run_id) / attempt_log_path(attempt), offset=end
        )
        if not remaining and end == 0:
            remaining = ctx.cluster.logs(f"{run_id}-a{attempt}").encode()
        if remaining:
            ctx.logs.append(run_id, attempt, offset=end, content=remaining)
    except (OSError, Unreachable) as error:
        log.warning("log.not_stored", run_id=run_id, attempt=attempt, reason=str(error))


def read_log(run_id: str, *, attempt: int | None = None, offset: int = 0, ctx: Context) -> str:
    """Logs of all attempts, or of one attempt from a byte offset."""
    run = get_run(run_id, ctx=ctx)
    numbers = range(1, run.attempt + 1) if attempt is None else [attempt]
    start = 0 if attempt is None else offset
    parts = [_read_all(run, number, start, ctx=ctx) for number in numbers]
    return "".join(part.decode(errors="replace") for part in parts)


def read_last_lines(run_id: str, count: int, *, attempt: int | None = None, ctx: Context) -> str:
    """The last `count` lines over all attempts, or of one attempt."""
    run = get_run(run_id, ctx=ctx)
    numbers = range(run.attempt, 0, -1) if attempt is None else [attempt]
    lines: list[str] = []
    for number in numbers:
        text = _read_tail(run, number, ctx=ctx).decode(errors="replace")
        lines = [*text.splitlines(keepends=True), *lines]
        if len(lines) >= count:
            break
    return "".join(lines[-count:])


def search_log(run_id: str, query: str, *, attempt: int | None = None, ctx: Context) -> str:
    """Lines that contain a text, ignoring case, as `attempt:line: text`."""
    run = get_run(run_id, ctx=ctx)
    numbers = range(1, run.attempt + 1) if attempt is None else [attempt]
    query = query.casefold()
    matches = [
        f"{number}:{at}: {line}"
        for number in numbers
        for at, line in enumerate(
            _read_all(run, number, 0, ctx=ctx).decode(errors="replace").splitlines(keepends=True),
            start=1,
        )
        if query in line.casefold()
    ]
    return "".join(line if line.endswith("\n") else line + "\n" for line in matches)


def follow_logs(
    run_id: str, *, since: LogPosition = LogPosition(), ctx: Context
) -> Iterator[LogChunk | None]:
    """Yield parts of the logs as they grow until the run is over; `None` while nothing is new."""
    position = since
    while True:
        # The state is read before the log: otherwise lines written in between would be lost.
        run = get_run(run_id, ctx=ctx)
        is_final = run.is_over or run.attempt > position.attempt
        content = _read(run, position.attempt, position.offset, ctx=ctx) if run.attempt else b""
        complete = (
            content if is_final and len(content) < _READ_BYTES else _trim_partial_character(content)
        )
        if complete:
            position = LogPosition(position.attempt, position.offset + len(complete))
            yield LogChunk(complete.decode(errors="replace"), position)
        elif run.attempt > position.attempt:
            position = LogPosition(position.attempt + 1)
        elif run.is_over:
            return
        else:
            yield None


def _read_all(run: Run, number: int, offset: int, *, ctx: Context) -> bytes:
    content = bytearray()
    while more := _read(run, number, offset + len(content), ctx=ctx):
        content += more
    return bytes(content)


def _read_tail(run: Run, number: int, *, ctx: Context) -> bytes:
    stored = ctx.logs.size_bytes(run.id, number)
    return _read_all(run, number, max(0, stored - _MAX_TAIL_BYTES), ctx=ctx)


def _read(run: Run, number: int, offset: int, *, ctx: Context) -> bytes:
    """Uploaded bytes first, then bytes that only the run's folder has."""
    content = ctx.logs.read(run.id, number, offset=offset, limit=_READ_BYTES)
    if content:
        return content
    file = ctx.files.run_dir(run.id) / attempt_log_path(number)
    return ctx.files.text(file, offset=offset, limit=_READ_BYTES)


def _trim_partial_character(content: bytes) -> bytes:
    """Drop an incomplete UTF-8 character at the end."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(content)
    incomplete, _ = decoder.getstate()
    return content[: len(content) - len(incomplete)]
