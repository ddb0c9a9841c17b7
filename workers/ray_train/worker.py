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
from workers.attempt.cleanup import end_earlier_attempts
from workers.attempt.failures import diagnose_failure, is_peer_failure
from workers.attempt.files import AttemptFiles, ProcessFailure, ProcessSpec
from workers.attempt.stop import Termination
from workers.jobs.train import train
from workers.process import compat
from workers.process.gpu_context import CudaContext
from workers.process.logs import configure_logging, enable_faulthandler, silence_libraries
from workers.process.oom import oom_kills_since_start, write_start_record

_LOOK_EVERY_S = 0.5
_LAST_WORD_WITHIN_S = 60.0

log = logging.getLogger(__name__)


class PeersWaiting(Exception):
    """This process has ended, and others may wait for it for good."""


def run_process(part: ProcessSpec, *, device: torch.device | None, node_id: str) -> ExitCode:
    """Train as one of the group that torch.distributed knows; returns how the attempt ended.

    What the others do not know of is raised, so that they are not waited for. `node_id` is Ray's
    name for the node where this process runs.
    """
    slips = AttemptFiles.for_process(part)
    configure_logging(slips.log_file(distributed.get_rank()), to_stderr=False)
    enable_faulthandler(slips.log_file(distributed.get_rank()))
    write_start_record(
        Path(part.run_dir), attempt=part.identity.attempt, rank=distributed.get_rank()
    )
    silence_libraries()
    if part.identity.service_url is not None:
        end_earlier_attempts(part.identity.run_id, attempt=part.identity.attempt)
    compat.apply_patches()
    with _told_to_leave(slips) as termination:
        code = _train(part, slips=slips, termination=termination, device=device, node_id=node_id)
    if code is ExitCode.REFUSED and (distributed.is_main_process() or not _has_first_spoken(slips)):
        raise PeersWaiting("This process was refused; the log says why.")
    return code


def _train(
    part: ProcessSpec,
    *,
    slips: AttemptFiles,
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
            stall_timeout_s=part.stall_timeout_s,
        )
    except Exception as error:
        log.exception("This process of the group cannot go on.")
        failure = diagnose_process_failure(error, process_spec=part, node_id=node_id)
        if failure is not None:
            slips.write_failure(failure)
        raise


def diagnose_process_failure(
    error: Exception, *, process_spec: ProcessSpec, node_id: str
) -> ProcessFailure | None:
    """Why this process failed, on which node; none if it only noticed another one's end."""
    if is_peer_failure(error):
        return None
    cause = diagnose_failure(
        error,
        oom_kills=oom_kills_since_start(
            Path(process_spec.run_dir), attempt=process_spec.identity.attempt
        ),
        foreign_bytes=CudaContext().foreign_bytes,
    )
    return ProcessFailure(reason=cause.reason, message=cause.message, node_id=node_id)


def _has_first_spoken(slips: AttemptFiles) -> bool:
    """Whether the first process ended of the same: it has to report yet, so it is left in peace."""
    deadline_s = time.monotonic() + _LAST_WORD_WITHIN_S
    while slips.read_outcome() is None:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


@contextmanager
def _told_to_leave(slips: AttemptFiles) -> Iterator[Termination]:
    """The driver's SIGTERM, as the first process hears of it; the others agree with that one."""
    termination, is_over = Termination(), threading.Event()

    def listen() -> None:
        while not is_over.wait(_LOOK_EVERY_S):
            if slips.is_stop_requested():
                termination.request()
                return

    if distributed.is_main_process():
        threading.Thread(target=listen, name="told-to-leave", daemon=True).start()
    try:
        yield termination
    finally:
        is_over.set()
