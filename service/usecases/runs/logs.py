"""What a run's worker wrote down: kept, shown whole or in part, followed as it grows."""

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
_LONGEST_TAIL_BYTES = 1024 * 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LogPosition:
    """A place in the logs of a run: whoever has read so far goes on from here."""

    attempt: int = 1
    offset: int = 0
    """In bytes."""


@dataclass(frozen=True)
class LogChunk:
    """Some of a log, and the place behind it."""

    text: str
    end: LogPosition


def append_log_chunk(
    run_id: str, attempt: int, *, offset: int, content: bytes, ctx: Context
) -> int:
    """Keep a piece of an attempt's log; returns the offset that is wanted next."""
    get_run(run_id, ctx=ctx)
    end = ctx.logs.append(run_id, attempt, offset=offset, content=content)
    ctx.counters.count("log_bytes", len(content))
    return end


def store_remaining_log(run_id: str, attempt: int, *, ctx: Context) -> None:
    """Keep what an attempt that is over could not bring: from its folder, else from Ray.

    The last lines of a killed process are there too, since each is written at once. Nothing that
    goes wrong outside is raised: a log is worth less than the end of its run.
    """
    try:
        end = ctx.logs.size_bytes(run_id, attempt)
        rest = ctx.files.text(ctx.files.run_dir(run_id) / attempt_log_path(attempt), offset=end)
        if not rest and end == 0:
            rest = ctx.cluster.logs(f"{run_id}-a{attempt}").encode()
        if rest:
            ctx.logs.append(run_id, attempt, offset=end, content=rest)
    except (OSError, Unreachable) as error:
        log.warning("log.not_kept", run_id=run_id, attempt=attempt, why=str(error))


def read_log(run_id: str, *, attempt: int | None = None, offset: int = 0, ctx: Context) -> str:
    """Logs of all attempts, or of one from an offset on."""
    run = get_run(run_id, ctx=ctx)
    numbers = range(1, run.attempt + 1) if attempt is None else [attempt]
    start = 0 if attempt is None else offset
    parts = [_whole(run, number, start, ctx=ctx) for number in numbers]
    return "".join(part.decode(errors="replace") for part in parts)


def read_last_lines(run_id: str, count: int, *, attempt: int | None = None, ctx: Context) -> str:
    """The last lines of a run, over its attempts."""
    run = get_run(run_id, ctx=ctx)
    numbers = range(run.attempt, 0, -1) if attempt is None else [attempt]
    lines: list[str] = []
    for number in numbers:
        text = _end_of(run, number, ctx=ctx).decode(errors="replace")
        lines = [*text.splitlines(keepends=True), *lines]
        if len(lines) >= count:
            break
    return "".join(lines[-count:])


def search_log(run_id: str, wanted: str, *, attempt: int | None = None, ctx: Context) -> str:
    """Lines that contain a text, large or small letters alike, as `attempt:line: text`."""
    run = get_run(run_id, ctx=ctx)
    numbers = range(1, run.attempt + 1) if attempt is None else [attempt]
    wanted = wanted.casefold()
    found = [
        f"{number}:{at}: {line}"
        for number in numbers
        for at, line in enumerate(
            _whole(run, number, 0, ctx=ctx).decode(errors="replace").splitlines(keepends=True),
            start=1,
        )
        if wanted in line.casefold()
    ]
    return "".join(line if line.endswith("\n") else line + "\n" for line in found)


def follow_logs(
    run_id: str, *, since: LogPosition = LogPosition(), ctx: Context
) -> Iterator[LogChunk | None]:
    """Logs as they grow, until the run is over; none where there is nothing new yet."""
    place = since
    while True:
        # First the state, then the log: what is written between the two is read.
        run = get_run(run_id, ctx=ctx)
        is_last_word = run.is_over or run.attempt > place.attempt
        content = _read(run, place.attempt, place.offset, ctx=ctx) if run.attempt else b""
        whole = content if is_last_word and len(content) < _READ_BYTES else _whole_letters(content)
        if whole:
            place = LogPosition(place.attempt, place.offset + len(whole))
            yield LogChunk(whole.decode(errors="replace"), place)
        elif run.attempt > place.attempt:
            place = LogPosition(place.attempt + 1)
        elif run.is_over:
            return
        else:
            yield None


def _whole(run: Run, number: int, offset: int, *, ctx: Context) -> bytes:
    content = bytearray()
    while more := _read(run, number, offset + len(content), ctx=ctx):
        content += more
    return bytes(content)


def _end_of(run: Run, number: int, *, ctx: Context) -> bytes:
    stored = ctx.logs.size_bytes(run.id, number)
    return _whole(run, number, max(0, stored - _LONGEST_TAIL_BYTES), ctx=ctx)


def _read(run: Run, number: int, offset: int, *, ctx: Context) -> bytes:
    """What was brought here, then what the run's folder has beyond that."""
    content = ctx.logs.read(run.id, number, offset=offset, limit=_READ_BYTES)
    if content:
        return content
    file = ctx.files.run_dir(run.id) / attempt_log_path(number)
    return ctx.files.text(file, offset=offset, limit=_READ_BYTES)


def _whole_letters(content: bytes) -> bytes:
    """Without the beginning of a letter whose end is not there yet (UTF-8)."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(content)
    beginning, _ = decoder.getstate()
    return content[: len(content) - len(beginning)]
