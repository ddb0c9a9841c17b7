"""What a run's worker printed: whole, or as it comes."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from configs.spec import attempt_log
from service.domain.errors import ClusterUnreachable
from service.domain.runs import Run
from service.usecases.runs import show_run
from service.usecases.world import World


def logs_of_run(run_id: str, *, world: World) -> str:
    """Logs of all attempts; of one that left no file, what Ray kept of it."""
    run = show_run(run_id, world=world)
    parts = [_log_of_attempt(run, number, world=world) for number in range(1, run.attempt + 1)]
    return "".join(parts)


def follow_logs(run_id: str, *, world: World) -> Iterator[str]:
    """Logs as they grow, until the run is over; an empty text where there is nothing new yet."""
    number = 1
    while True:
        run = show_run(run_id, world=world)
        if run.attempt >= number:
            yield from _follow_attempt(run_id, number, world=world)
            number += 1
        elif run.is_over:
            return
        else:
            yield ""


def _follow_attempt(run_id: str, number: int, *, world: World) -> Iterator[str]:
    """The log of one attempt until the run is over or has a later attempt."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    offset = 0
    while True:
        # First the state, then the file: what is written between the two is read.
        run = show_run(run_id, world=world)
        new = world.files.text(_log_file(run, number, world=world), offset=offset)
        offset += len(new)
        if text := decoder.decode(new):
            yield text
        if run.is_over or run.attempt > number:
            break
        if not new:
            yield ""
    if offset == 0:
        yield _log_of_attempt(run, number, world=world)


def _log_of_attempt(run: Run, number: int, *, world: World) -> str:
    content = world.files.text(_log_file(run, number, world=world))
    if content:
        return content.decode(errors="replace")
    try:
        return world.cluster.logs(f"{run.id}-a{number}")
    except ClusterUnreachable:
        return ""


def _log_file(run: Run, number: int, *, world: World) -> Path:
    return world.files.run_dir(run.id) / attempt_log(number)
