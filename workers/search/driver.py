"""The driver of a sweep. It may be killed at any time: the next one resumes from the service's log.

Trials are runs of the service; Ray Tune decides which ones start and which ones stop.
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
_MONITOR_BYTES = 64 * 2**20
"""Memory of one trial monitor process."""

_MEMORY_FRACTION = 0.5
_TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # The service's log is the only state.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DriverConfig:
    """Which sweep to drive, and how to reach the service."""

    id: str
    url: str
    token_file: Path | None = None
    poll_interval_s: float = 1.0


def run_driver(config: DriverConfig) -> ExitCode:
    """Run a sweep to its end. Expected failures are returned as an exit code, not raised."""
    try:
        with closing(
            SweepLogClient(config.url, sweep=config.id, token_file=config.token_file)
        ) as client:
            reason = _run_to_end(SweepLogMirror(client), poll_interval_s=config.poll_interval_s)
    except DriverExit as exit_request:
        log.error("The driver exits: %s", exit_request.message)  # noqa: TRY400
        return exit_request.exit_code
    except (RayError, TuneError, ConnectionError):
        log.exception("Ray failed; a new driver can resume the sweep from its log.")
        return ExitCode.INTERRUPTED
    log.info("Sweep %s is closed: %s", config.id, reason)
    return ExitCode.SUCCEEDED


def _run_to_end(log_mirror: SweepLogMirror, *, poll_interval_s: float) -> str:
    """Search, close the sweep, and return the reason for closing it."""
    sweep = log_mirror.sweep
    if sweep.is_closed:
        return "It was closed before."
    num_running = sum(trial.ended is None for trial in sweep.trials)
    log.info("%d trials so far, %d of them running.", len(sweep.trials), num_running)
    reason = _search(log_mirror, poll_interval_s=poll_interval_s)
    log_mirror.append(SweepClosed(why=reason))
    return reason


def _search(log_mirror: SweepLogMirror, *, poll_interval_s: float) -> str:
    """Run trials until none is running and none may start; return the reason to end."""
    with tempfile.TemporaryDirectory(prefix="tandem-sweep-") as folder, _connect_ray() as node:
        status_folder, storage = Path(folder) / "status", Path(folder) / "tune"
        status_folder.mkdir()
        _exit_on_sigterm(folder)
        status_writer = TrialStatusWriter(status_folder, log_mirror, interval_s=poll_interval_s)
        free_bytes = psutil.virtual_memory().available
        max_concurrent = count_monitors(log_mirror.concurrency, free_bytes=free_bytes)
        search = LoggedSearchAlgorithm(
            log_mirror, status_writer, node=node, max_concurrent=max_concurrent
        )
        if not search.is_finished():
            os.environ |= _TUNE_SETTINGS | {"TUNE_MAX_PENDING_TRIALS_PG": str(max_concurrent)}
            _run_tune(search, LoggedScheduler(log_mirror, status_writer), storage=storage)
        return search.end_reason() or "No trial is running any more."


def count_monitors(requested: int, *, free_bytes: int) -> int:
    """Number of concurrent trials: `requested`, limited by the memory for their monitors here."""
    capacity = max(1, int(free_bytes * _MEMORY_FRACTION / _MONITOR_BYTES))
    if capacity < requested:
        log.warning(
            "This node has memory for %d concurrent trials, not for %d.", capacity, requested
        )
    return min(capacity, requested)


def _run_tune(search: LoggedSearchAlgorithm, scheduler: LoggedScheduler, *, storage: Path) -> None:
    register_null_serializers()
    # Tune warns about missing result files, which our trials never write.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    # Not `Tuner`, which pickles search and scheduler to restore them; the log restores them here.
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
def _connect_ray() -> Iterator[str]:
    """Connect to Ray; yields the name of the resource that exists only on the driver's node."""
    local_cluster: dict[str, Any] = {
        "address": "local",
        "num_cpus": 1,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }
    ray.init(
        **({} if "RAY_ADDRESS" in os.environ else local_cluster),
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    try:
        yield _node_resource()
    finally:
        ray.shutdown()


def _exit_on_sigterm(folder: str) -> None:
    """Exit at once on SIGTERM: Ray's own handler is slow, and there is nothing to save."""

    def exit_now(*_: object) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(ExitCode.STOPPED)

    signal.signal(signal.SIGTERM, exit_now)


def _node_resource() -> str:
    node_id = ray.get_runtime_context().get_node_id()
    (node,) = (node for node in ray.nodes() if node["NodeID"] == node_id)
    names = (name for name in node["Resources"] if name.startswith("node:"))
    return next(name for name in names if not name.startswith("node:__"))
