"""One of the processes that train a run together."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from configs.protocol.names import ExitCode
from workers import distributed
from workers.attempt.cleanup import tidy_earlier
from workers.attempt.failures import cause_of, is_others_end
from workers.attempt.files import Failure, Part, Slips
from workers.attempt.stop import Termination
from workers.jobs.train import train
from workers.process import compat
from workers.process.gpu_context import CudaContext
from workers.process.logs import silence_libraries, write_crashes, write_log
from workers.process.oom import leave_start_mark, oom_kills_since_start

_LOOK_EVERY_S = 0.5
_LAST_WORD_WITHIN_S = 60.0

log = logging.getLogger(__name__)


class LeftBehind(Exception):
    """This process has ended, and others may wait for it for good."""


def take_part(part: Part, *, device: torch.device | None, node_id: str) -> ExitCode:
    """Train as one of the group that torch.distributed knows; returns how the attempt ended.

    What the others do not know of is raised, so that they are not waited for. `node_id` is Ray's
    name for the node where this process runs.
    """
    slips = Slips.of(part)
    write_log(slips.log_of(distributed.rank()), also_print=False)
    write_crashes(slips.log_of(distributed.rank()))
    leave_start_mark(Path(part.run_dir), attempt=part.identity.attempt, rank=distributed.rank())
    silence_libraries()
    if part.identity.report_url is not None:
        tidy_earlier(part.identity.run_id, attempt=part.identity.attempt)
    compat.apply()
    with _told_to_leave(slips) as termination:
        code = _train(part, slips=slips, termination=termination, device=device, node_id=node_id)
    if code is ExitCode.REFUSED and (distributed.is_first() or not _has_first_spoken(slips)):
        raise LeftBehind("This process was refused; the log says why.")
    return code


def _train(
    part: Part,
    *,
    slips: Slips,
    termination: Termination,
    device: torch.device | None,
    node_id: str,
) -> ExitCode:
    try:
        return train(
            part.spec,
            identity=part.identity,
            run_dir=Path(part.run_dir),
            termination=termination,
            device=device,
            stall_after_s=part.stall_after_s,
        )
    except Exception as error:
        log.exception("This process of the group cannot go on.")
        failure = failure_of(error, part=part, node_id=node_id)
        if failure is not None:
            slips.keep_failure(failure)
        raise


def failure_of(error: Exception, *, part: Part, node_id: str) -> Failure | None:
    """Why this process failed, on which node; none if it only noticed another one's end."""
    if is_others_end(error):
        return None
    cause = cause_of(
        error,
        oom_kills=oom_kills_since_start(Path(part.run_dir), attempt=part.identity.attempt),
        foreign_bytes=CudaContext().foreign_bytes,
    )
    return Failure(reason=cause.reason, message=cause.message, node_id=node_id)


def _has_first_spoken(slips: Slips) -> bool:
    """Whether the first process ended of the same: it has to report yet, so it is left in peace."""
    deadline_s = time.monotonic() + _LAST_WORD_WITHIN_S
    while slips.last_word() is None:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


@contextmanager
def _told_to_leave(slips: Slips) -> Iterator[Termination]:
    """The driver's SIGTERM, as the first process hears of it; the others agree with that one."""
    termination, is_over = Termination(), threading.Event()

    def listen() -> None:
        while not is_over.wait(_LOOK_EVERY_S):
            if slips.is_to_leave():
                termination.request()
                return

    if distributed.is_first():
        threading.Thread(target=listen, name="told-to-leave", daemon=True).start()
    try:
        yield termination
    finally:
        is_over.set()
