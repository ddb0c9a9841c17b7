"""Health of the service's dependencies, checked concurrently: a hanging one delays no other."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Literal

import structlog

from configs.protocol.names import DEFAULT_PROJECT
from service.domain.errors.base import TandemError
from service.domain.metrics.series import Series
from service.usecases.context import Context

log = structlog.get_logger(__name__)

Readiness = Literal["ready", "degraded", "unready"]
LoopAges = Callable[[], Mapping[str, float]]
"""Seconds since the last completed turn of each loop, by loop name."""

_CHECK_TIMEOUT_S = 2.5
_CACHE_TTL_S = 1.0
_MIN_FREE_BYTES = 2**30
_MAX_LOOP_LAG_S = 60.0
_REQUIRED = frozenset({"database", "loops", "run folders"})
"""Without one of these the service is `unready`; without one of the others it is `degraded`."""


@dataclass(frozen=True)
class Check:
    """Result of the last check of one dependency."""

    name: str
    ok: bool
    detail: str
    since: datetime
    """Start of the current state, healthy or not."""


@dataclass
class HealthMonitor:
    """Checks all dependencies and remembers when the state of each last changed."""

    ctx: Context
    loop_ages: LoopAges
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(8, thread_name_prefix="health")
    )
    _pending: dict[str, Future[str]] = field(default_factory=dict)
    _results: dict[str, Check] = field(default_factory=dict)
    _checked_at_s: float = -_CACHE_TTL_S
    _disk_bytes: tuple[int, int] | None = None
    """Free and total bytes; `None` until the first successful check, and while it fails."""

    def checks(self) -> list[Check]:
        """The state of every dependency, checked again at most once a second."""
        if monotonic() - self._checked_at_s >= _CACHE_TTL_S:
            self._run_checks()
            self._checked_at_s = monotonic()
        return list(self._results.values())

    def readiness(self) -> Readiness:
        """`unready` if a required check fails, `degraded` if only others do."""
        failing = {check.name for check in self.checks() if not check.ok}
        if failing & _REQUIRED:
            return "unready"
        return "degraded" if failing else "ready"

    def series(self) -> list[Series]:
        """Health and disk usage as metrics; disk usage is omitted while it is unknown."""
        up = [((check.name,), float(check.ok)) for check in self.checks()]
        disks = [self._disk_bytes] if self._disk_bytes is not None else []
        return [
            Series("up", "Whether a dependency of the service is healthy.", ("check",), up),
            Series(
                "disk_free_bytes",
                "Free bytes of the file system with the folders of runs.",
                (),
                [((), free) for free, _ in disks],
            ),
            Series(
                "disk_size_bytes",
                "Size in bytes of the file system with the folders of runs.",
                (),
                [((), size) for _, size in disks],
            ),
        ]

    def close(self) -> None:
        """Stop the thread pool without waiting for checks that hang."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run_checks(self) -> None:
        probes: dict[str, Callable[[], str]] = {
            "database": self._check_database,
            "ray": self._check_ray,
            "mlflow": self._check_mlflow,
            "run folders": self._check_run_folders,
            "disk": self._check_disk,
            "loops": self._check_loops,
        }
        for name, probe in probes.items():
            # A check that still hangs is not started a second time.
            if name not in self._pending:
                self._pending[name] = self._pool.submit(probe)
        wait(self._pending.values(), timeout=_CHECK_TIMEOUT_S)
        for name in probes:
            self._record(name, *self._collect(name))

    def _collect(self, name: str) -> tuple[bool, str]:
        future = self._pending[name]
        if not future.done():
            return False, f"no answer within {_CHECK_TIMEOUT_S:g} s"
        del self._pending[name]
        error = future.exception()
        if error is None:
            return True, future.result()
        if isinstance(error, TandemError | OSError):
            return False, str(error)
        log.error("health.check_failed", check=name, exc_info=error)
        return False, f"internal error ({type(error).__name__}); see the service's log"

    def _record(self, name: str, ok: bool, detail: str) -> None:
        previous = self._results.get(name)
        has_changed = previous is None or previous.ok is not ok
        since = self.ctx.clock.now() if has_changed or previous is None else previous.since
        self._results[name] = Check(name, ok, detail, since)

    def _check_database(self) -> str:
        with self.ctx.store.snapshot() as uow:
            uow.events.last_id()
        return "answers"

    def _check_ray(self) -> str:
        nodes = self.ctx.cluster.nodes()
        return f"{len(nodes)} nodes"

    def _check_mlflow(self) -> str:
        self.ctx.tracker.find("none", project=DEFAULT_PROJECT)
        return "answers"

    def _check_run_folders(self) -> str:
        self.ctx.files.check_writable()
        return "can be written"

    def _check_disk(self) -> str:
        self._disk_bytes = None
        free, size = self.ctx.files.free_bytes(), self.ctx.files.size_bytes()
        self._disk_bytes = (free, size)
        if free < _MIN_FREE_BYTES:
            raise OSError(f"only {free / 2**20:.0f} MiB are free for the folders of runs")
        return f"{free / 2**30:.0f} GiB free"

    def _check_loops(self) -> str:
        late = {name: age for name, age in self.loop_ages().items() if age > _MAX_LOOP_LAG_S}
        if late:
            raise TimeoutError(", ".join(f"{name} for {age:.0f} s" for name, age in late.items()))
        return "all loops run"
