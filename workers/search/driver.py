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
from configs.protocol.sweep_log import Closed
from workers.search.scheduler import WrittenScheduler
from workers.search.searcher import ListedSearch
from workers.search.sweep_log import Leaving, Ledger, SweepDoor
from workers.search.trial_status import Board
from workers.search.tune_trial import Followed, send_followers_little

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
class Sweep:
    """Which sweep, and where its list is."""

    id: str
    url: str
    token_file: Path | None = None
    look_every_s: float = 1.0


def drive(sweep: Sweep) -> ExitCode:
    """Run a sweep to its end; every end is an exit code, none is raised."""
    try:
        with closing(SweepDoor(sweep.url, sweep=sweep.id, token_file=sweep.token_file)) as door:
            why = _to_its_end(Ledger(door), look_every_s=sweep.look_every_s)
    except Leaving as leaving:
        log.error("The driver leaves: %s", leaving.message)  # noqa: TRY400
        return leaving.exit_code
    except (RayError, TuneError, ConnectionError):
        log.exception("Ray failed; another driver can go on with the list.")
        return ExitCode.INTERRUPTED
    log.info("Sweep %s is closed: %s", sweep.id, why)
    return ExitCode.SUCCEEDED


def _to_its_end(ledger: Ledger, *, look_every_s: float) -> str:
    """Why the sweep is closed now, if it was not before."""
    history = ledger.history
    if history.is_closed:
        return "It was so before."
    going_on = sum(trial.ended is None for trial in history.trials)
    log.info("%d trials so far, of which %d go on.", len(history.trials), going_on)
    why = _search(ledger, look_every_s=look_every_s)
    ledger.append(Closed(why=why))
    return why


def _search(ledger: Ledger, *, look_every_s: float) -> str:
    """Follow trials until none is left and none begins; why it ended."""
    with tempfile.TemporaryDirectory(prefix="tandem-sweep-") as folder, _cluster() as node:
        notices, storage = Path(folder) / "notices", Path(folder) / "tune"
        notices.mkdir()
        _leave_at_once_when_asked(folder)
        board = Board(notices, ledger, every_s=look_every_s)
        at_a_time = followers(ledger.concurrency, free_bytes=psutil.virtual_memory().available)
        search = ListedSearch(ledger, board, node=node, at_a_time=at_a_time)
        if not search.is_finished():
            os.environ |= _TUNE_SETTINGS | {"TUNE_MAX_PENDING_TRIALS_PG": str(at_a_time)}
            _tune(search, WrittenScheduler(ledger, board), storage=storage)
        return search.reason_to_end() or "No trial is left."


def followers(asked: int, *, free_bytes: int) -> int:
    """Trials at the same time: as asked, if processes that follow them fit into this node."""
    room = max(1, int(free_bytes * _SHARE_OF_MEMORY / _FOLLOWER_BYTES))
    if room < asked:
        log.warning("This node has memory to follow %d trials at a time, not %d.", room, asked)
    return min(room, asked)


def _tune(search: ListedSearch, scheduler: WrittenScheduler, *, storage: Path) -> None:
    send_followers_little()
    # It warns that trials wrote no results, and of what it cannot know of ours.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    # Not `Tuner`, which would pickle search and scheduler to restore them: the list does that.
    tune.run(
        Followed,
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
