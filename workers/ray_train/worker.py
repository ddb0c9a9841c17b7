"""A training process of a run that has several."""

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

_POLL_INTERVAL_S = 0.5
_OUTCOME_TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


class PeersWaiting(Exception):
    """Raised so that Ray ends the other processes, which would wait for this one forever."""


def run_process(
    process_spec: ProcessSpec, *, device: torch.device | None, node_id: str
) -> ExitCode:
    """Train as one process of the torch.distributed group; returns how the attempt ended.

    Raises what only this process knows of, so that Ray ends the others. `node_id`: Ray's id of the
    node of this process.
    """
    files = AttemptFiles.for_process(process_spec)
    configure_logging(files.log_file(distributed.get_rank()), to_stderr=False)
    enable_faulthandler(files.log_file(distributed.get_rank()))
    write_start_record(
        Path(process_spec.run_dir),
        attempt=process_spec.identity.attempt,
        rank=distributed.get_rank(),
    )
    silence_libraries()
    if process_spec.identity.service_url is not None:
        end_earlier_attempts(process_spec.identity.run_id, attempt=process_spec.identity.attempt)
    compat.apply_patches()
    with _poll_stop_request(files) as termination:
        exit_code = _train(
            process_spec, files=files, termination=termination, device=device, node_id=node_id
        )
    if exit_code is ExitCode.REFUSED and (
        distributed.is_main_process() or not _has_main_process_reported(files)
    ):
        raise PeersWaiting("This process cannot train; its log says why.")
    return exit_code


def _train(
    process_spec: ProcessSpec,
    *,
    files: AttemptFiles,
    termination: Termination,
    device: torch.device | None,
    node_id: str,
) -> ExitCode:
    try:
        return train(
            process_spec.spec,
            identity=process_spec.identity,
            run_dir=Path(process_spec.run_dir),
            termination=termination,
            device=device,
            stall_timeout_s=process_spec.stall_timeout_s,
        )
    except Exception as error:
        log.exception("This training process failed.")
        failure = diagnose_process_failure(error, process_spec=process_spec, node_id=node_id)
        if failure is not None:
            files.write_failure(failure)
        raise


def diagnose_process_failure(
    error: Exception, *, process_spec: ProcessSpec, node_id: str
) -> ProcessFailure | None:
    """Why this process failed; None if it only lost the connection to another one."""
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


def _has_main_process_reported(files: AttemptFiles) -> bool:
    """Wait for the outcome of the main process, which usually fails for the same reason."""
    deadline_s = time.monotonic() + _OUTCOME_TIMEOUT_S
    while files.read_outcome() is None:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_INTERVAL_S)
    return True


@contextmanager
def _poll_stop_request(files: AttemptFiles) -> Iterator[Termination]:
    """Pass the driver's stop request on to the main process, with which the others agree."""
    termination, has_ended = Termination(), threading.Event()

    def poll() -> None:
        while not has_ended.wait(_POLL_INTERVAL_S):
            if files.is_stop_requested():
                termination.request()
                return

    if distributed.is_main_process():
        threading.Thread(target=poll, name="stop-request", daemon=True).start()
    try:
        yield termination
    finally:
        has_ended.set()
