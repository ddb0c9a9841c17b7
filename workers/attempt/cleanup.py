"""Ends what attempts that are over left behind on this node: they may hold a GPU's memory."""

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

_ASK = "/v1/attempts:over"

log = logging.getLogger(__name__)

Notify = Callable[[str], None]


def clean_up_node(
    url: str,
    *,
    exclude: Iterable[str] = (),
    token_file: Path | None = None,
    notify: Notify = log.info,
) -> ExitCode:
    """End the processes of every attempt that the service calls over, and of no other.

    A service that does not answer is no reason to end anything (exit code 20).
    """
    here = find_attempt_processes()
    asked = sorted(here.keys() - set(exclude))
    if not asked:
        notify("No attempt has processes here.")
        return ExitCode.SUCCEEDED
    door = ServiceClient(url, token_file=token_file)
    try:
        body = NodeAttempts(attempts=tuple(asked)).model_dump_json()
        response = door.post(_ASK, body, media_type="application/json")
        over = set(parse_response(FinishedAttempts, response).finished)
    except SinkUnavailable as error:
        notify(f"The service cannot be asked, so nothing is ended: {error}")
        return ExitCode.INTERRUPTED
    finally:
        door.close()
    return _end_all([name for name in asked if name in over], here, say=notify)


def end_earlier_attempts(run_id: str, *, attempt: int) -> None:
    """End what earlier attempts of a run left here: they are over, for this attempt exists."""
    here = find_attempt_processes()
    _end_all(filter_earlier_attempts(here, run_id=run_id, attempt=attempt), here, say=log.warning)


def _end_all(
    names: Sequence[str], here: Mapping[str, list[psutil.Process]], *, say: Notify
) -> ExitCode:
    code = ExitCode.SUCCEEDED
    for name in names:
        ended = terminate_processes(here[name])
        if ended.ended:
            say(f"Ended {name}: {_numbers(ended.ended)}.")
        if ended.unkillable:
            say(f"{name} cannot be ended: {_numbers(ended.unkillable)}; the kernel holds it.")
            code = ExitCode.INTERRUPTED
    if not names:
        log.debug("No attempt that is over has processes here.")
    return code


def _numbers(pids: Sequence[int]) -> str:
    word = "process" if len(pids) == 1 else "processes"
    return f"{word} {', '.join(str(pid) for pid in pids)}"
