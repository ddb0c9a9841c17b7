"""Terminates processes of ended attempts on this node, which may still hold a GPU's memory."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from configs.protocol.names import ExitCode
from configs.protocol.records import FinishedAttempts, NodeAttempts
from workers.process.node import (
    filter_earlier_attempts,
    find_attempt_processes,
    terminate_processes,
)
from workers.telemetry.service_client import ServiceClient, parse_response
from workers.telemetry.shipper import SinkUnavailable

_FINISHED_ATTEMPTS_PATH = "/v1/attempts:over"

log = logging.getLogger(__name__)

Notify = Callable[[str], None]


def clean_up_node(
    url: str,
    *,
    exclude: Iterable[str] = (),
    token_file: Path | None = None,
    notify: Notify = log.info,
) -> ExitCode:
    """Terminate the processes of all attempts that the service knows as finished.

    `exclude` holds submission ids. Without an answer of the service nothing is terminated, and the
    exit code is 20 (interrupted).
    """
    processes = find_attempt_processes()
    attempts = sorted(processes.keys() - set(exclude))
    if not attempts:
        notify("No attempt has processes on this node.")
        return ExitCode.SUCCEEDED
    client = ServiceClient(url, token_file=token_file)
    try:
        body = NodeAttempts(attempts=tuple(attempts)).model_dump_json()
        response = client.post(_FINISHED_ATTEMPTS_PATH, body, media_type="application/json")
        finished = set(parse_response(FinishedAttempts, response).finished)
    except SinkUnavailable as error:
        notify(f"The service gives no answer, so nothing is terminated: {error}")
        return ExitCode.INTERRUPTED
    finally:
        client.close()
    return _terminate([name for name in attempts if name in finished], processes, notify=notify)


def end_earlier_attempts(run_id: str, *, attempt: int) -> None:
    """Terminate processes of earlier attempts of a run: this attempt exists, so they have ended."""
    processes = find_attempt_processes()
    earlier = filter_earlier_attempts(processes, run_id=run_id, attempt=attempt)
    _terminate(earlier, processes, notify=log.warning)


def _terminate(
    attempts: Sequence[str], processes: Mapping[str, list[psutil.Process]], *, notify: Notify
) -> ExitCode:
    exit_code = ExitCode.SUCCEEDED
    for name in attempts:
        result = terminate_processes(processes[name])
        if result.ended:
            notify(f"Terminated {name}: {_format_pids(result.ended)}.")
        if result.unkillable:
            notify(f"{name} cannot be killed: {_format_pids(result.unkillable)} in the kernel.")
            exit_code = ExitCode.INTERRUPTED
    if not attempts:
        log.debug("No finished attempt has processes on this node.")
    return exit_code


def _format_pids(pids: Sequence[int]) -> str:
    noun = "process" if len(pids) == 1 else "processes"
    return f"{noun} {', '.join(str(pid) for pid in pids)}"
