"""Ends what attempts that are over left behind on this node: they may hold a GPU's memory."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from configs.protocol.names import ExitCode
from configs.protocol.records import AttemptsHere, AttemptsOver
from workers.process.node import earlier_attempts, end, processes_by_attempt
from workers.telemetry.service_client import ServiceDoor, understood
from workers.telemetry.shipper import SinkUnavailable

_ASK = "/v1/attempts:over"

log = logging.getLogger(__name__)

Say = Callable[[str], None]


def tidy(
    url: str, *, spared: Iterable[str] = (), token_file: Path | None = None, say: Say = log.info
) -> ExitCode:
    """End the processes of every attempt that the service calls over, and of no other.

    A service that does not answer is no reason to end anything (exit code 20).
    """
    here = processes_by_attempt()
    asked = sorted(here.keys() - set(spared))
    if not asked:
        say("No attempt has processes here.")
        return ExitCode.SUCCEEDED
    door = ServiceDoor(url, token_file=token_file)
    try:
        body = AttemptsHere(attempts=tuple(asked)).model_dump_json()
        response = door.post(_ASK, body, media_type="application/json")
        over = set(understood(AttemptsOver, response).over)
    except SinkUnavailable as error:
        say(f"The service cannot be asked, so nothing is ended: {error}")
        return ExitCode.INTERRUPTED
    finally:
        door.close()
    return _end_all([name for name in asked if name in over], here, say=say)


def tidy_earlier(run_id: str, *, attempt: int) -> None:
    """End what earlier attempts of a run left here: they are over, for this attempt exists."""
    here = processes_by_attempt()
    _end_all(earlier_attempts(here, run_id=run_id, attempt=attempt), here, say=log.warning)


def _end_all(
    names: Sequence[str], here: Mapping[str, list[psutil.Process]], *, say: Say
) -> ExitCode:
    code = ExitCode.SUCCEEDED
    for name in names:
        ended = end(here[name])
        if ended.gone:
            say(f"Ended {name}: {_numbers(ended.gone)}.")
        if ended.left:
            say(f"{name} cannot be ended: {_numbers(ended.left)}; the kernel holds it.")
            code = ExitCode.INTERRUPTED
    if not names:
        log.debug("No attempt that is over has processes here.")
    return code


def _numbers(pids: Sequence[int]) -> str:
    word = "process" if len(pids) == 1 else "processes"
    return f"{word} {', '.join(str(pid) for pid in pids)}"
