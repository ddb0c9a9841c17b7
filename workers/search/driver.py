"""The driver of a sweep, from its list to its end. It may be killed at any moment: another goes on.

Trials are runs of the service; Ray Tune decides which begin and which stop.
"""

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError

from configs.protocol.names import ExitCode
from configs.protocol.sweep_log import SweepClosed
from workers.search.scheduler import LoggedScheduler
from workers.search.searcher import LoggedSearchAlgorithm
from workers.search.sweep_log import DriverExit, SweepLogClient, SweepLogMirror
from workers.search.trial_status import TrialStatusWriter
from workers.search.tune_trial import MonitoredTrainable, register_null_serializers

_OBJECT_STORE_BYTES = 80_000_000
_FOLLOWER_BYTES = 64 * 2**20
"""What a process that follows a trial takes."""

_SHARE_OF_MEMORY = 0.5
_TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # The list is all there is to remember.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DriverConfig:
    """Which sweep, and where its list is."""

    id: str
    url: str
    token_file: Path | None = None
    poll_interval_s: float = 1.0


def run_driver(sweep: DriverConfig) -> ExitCode:
    """Run a sweep to its end; every end is an exit code, none is raised."""
    try:
        with closing(
            SweepLogClient(sweep.url, sweep=sweep.id, token_file=sweep.token_file)
        ) as door:
            why = _to_its_end(SweepLogMirror(door), look_every_s=sweep.poll_interval_s)
    except DriverExit as leaving:
        log.error("The driver leaves: %s", leaving.message)  # noqa: TRY400
        return leaving.exit_code
    except (RayError, TuneError, ConnectionError):
        log.exception("Ray failed; another driver can go on with the list.")
        return ExitCode.INTERRUPTED
    log.info("Sweep %s is closed: %s", sweep.id, why)
    return ExitCode.SUCCEEDED


def _to_its_end(ledger: SweepLogMirror, *, look_every_s: float) -> str:
    """Why the sweep is closed now, if it was not before."""
    history = ledger.sweep
    if history.is_closed:
        return "It was so before."
    going_on = sum(trial.ended is None for trial in history.trials)
    log.info("%d trials so far, of which %d go on.", len(history.trials), going_on)
    why = _search(ledger, look_every_s=look_every_s)
    ledger.append(SweepClosed(why=why))
    return why


def _search(ledger: SweepLogMirror, *, look_every_s: float) -> str:
    """Follow trials until none is left and none begins; why it ended."""
    with tempfile.TemporaryDirectory(prefix="tandem-sweep-") as folder, _cluster() as node:
        notices, storage = Path(folder) / "notices", Path(folder) / "tune"
        notices.mkdir()
        _leave_at_once_when_asked(folder)
        board = TrialStatusWriter(notices, ledger, interval_s=look_every_s)
        at_a_time = count_monitors(ledger.concurrency, free_bytes=psutil.virtual_memory().available)
        search = LoggedSearchAlgorithm(ledger, board, node=node, max_concurrent=at_a_time)
        if not search.is_finished():
            os.environ |= _TUNE_SETTINGS | {"TUNE_MAX_PENDING_TRIALS_PG": str(at_a_time)}
            _tune(search, LoggedScheduler(ledger, board), storage=storage)
        return search.end_reason() or "No trial is left."


def count_monitors(requested: int, *, free_bytes: int) -> int:
    """Trials at the same time: as asked, if processes that follow them fit into this node."""
    room = max(1, int(free_bytes * _SHARE_OF_MEMORY / _FOLLOWER_BYTES))
    if room < requested:
        log.warning("This node has memory to follow %d trials at a time, not %d.", room, requested)
    return min(room, requested)


def _tune(search: LoggedSearchAlgorithm, scheduler: LoggedScheduler, *, storage: Path) -> None:
    register_null_serializers()
    # It warns that trials wrote no results, and of what it cannot know of ours.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    # Not `Tuner`, which would pickle search and scheduler to restore them: the list does that.
    tune.run(
        MonitoredTrainable,
        name="sweep",
        search_alg=search,
        scheduler=scheduler,
        reuse_actors=True,
        storage_path=str(storage),
        verbose=0,
        raise_on_failed_trial=False,
    )


@contextmanager
def _cluster() -> Iterator[str]:
    """Ray, connected, and the resource that is on the driver's node alone."""
    own: dict[str, Any] = {
        "address": "local",
        "num_cpus": 1,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }
    ray.init(
        **({} if "RAY_ADDRESS" in os.environ else own),
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    try:
        yield _resource_of_this_node()
    finally:
        ray.shutdown()


def _leave_at_once_when_asked(folder: str) -> None:
    """Ray's own handler of SIGTERM takes its time; there is nothing to save."""

    def leave(*_: object) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(ExitCode.STOPPED)

    signal.signal(signal.SIGTERM, leave)


def _resource_of_this_node() -> str:
    here = ray.get_runtime_context().get_node_id()
    (node,) = (one for one in ray.nodes() if one["NodeID"] == here)
    names = (name for name in node["Resources"] if name.startswith("node:"))
    return next(name for name in names if not name.startswith("node:__"))
