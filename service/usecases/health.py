"""What the service needs, asked side by side: who hangs does not keep the others from answering."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Literal

import structlog

from configs.protocol.names import DEFAULT_PROJECT
from service.domain.errors import TandemError
from service.domain.metrics.series import Series
from service.usecases.context import Context

log = structlog.get_logger(__name__)

Readiness = Literal["ready", "degraded", "unready"]
LoopAges = Callable[[], Mapping[str, float]]
"""Seconds since each loop's last turn that came to its end."""

_ANSWER_WITHIN_S = 2.5
_FRESH_S = 1.0
_LEAST_FREE_BYTES = 2**30
_LONGEST_LAG_S = 60.0
_NEEDED = frozenset({"database", "loops", "run folders"})
"""Without these nothing goes on; without the others runs wait."""


@dataclass(frozen=True)
class Check:
    """One thing that is needed, and how it is."""

    name: str
    ok: bool
    detail: str
    since: datetime
    """Since when it is so."""


@dataclass
class HealthMonitor:
    """Asks, and remembers since when each is as it is."""

    ctx: Context
    loop_ages: LoopAges
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(8, thread_name_prefix="health")
    )
    _pending: dict[str, Future[str]] = field(default_factory=dict)
    _known: dict[str, Check] = field(default_factory=dict)
    _asked_at_s: float = -_FRESH_S
    _disk_bytes: tuple[int, int] | None = None
    """How many are free, and how many there are; none: nobody has answered."""

    def checks(self) -> list[Check]:
        """How everything is; asked again at most once a second."""
        if monotonic() - self._asked_at_s >= _FRESH_S:
            self._ask()
            self._asked_at_s = monotonic()
        return list(self._known.values())

    def readiness(self) -> Readiness:
        """Ready, or what is away: something that is needed, or something that runs wait for."""
        wrong = {check.name for check in self.checks() if not check.ok}
        if wrong & _NEEDED:
            return "unready"
        return "degraded" if wrong else "ready"

    def series(self) -> list[Series]:
        """What answers, and the room on the disk; that is left out while nobody knows it."""
        up = [((check.name,), float(check.ok)) for check in self.checks()]
        seen = [self._disk_bytes] if self._disk_bytes is not None else []
        return [
            Series("up", "Whether what the service needs is as it should be.", ("what",), up),
            Series(
                "disk_free_bytes",
                "Room that is left for the folders of runs.",
                (),
                [((), free) for free, _ in seen],
            ),
            Series(
                "disk_size_bytes",
                "Size of the file system with the folders of runs.",
                (),
                [((), size) for _, size in seen],
            ),
        ]

    def close(self) -> None:
        """Let go of questions that nobody answers."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> None:
        questions: dict[str, Callable[[], str]] = {
            "database": self._database,
            "ray": self._ray,
            "mlflow": self._mlflow,
            "run folders": self._folders,
            "disk": self._disk,
            "loops": self._loops,
        }
        for name, question in questions.items():
            # Who has not answered the last time is not asked again.
            if name not in self._pending:
                self._pending[name] = self._pool.submit(question)
        wait(self._pending.values(), timeout=_ANSWER_WITHIN_S)
        for name in questions:
            self._note(name, *self._answer(name))

    def _answer(self, name: str) -> tuple[bool, str]:
        future = self._pending[name]
        if not future.done():
            return False, f"no answer within {_ANSWER_WITHIN_S:g} s"
        del self._pending[name]
        error = future.exception()
        if error is None:
            return True, future.result()
        if isinstance(error, TandemError | OSError):
            return False, str(error)
        log.error("health.fault", check=name, exc_info=error)
        return False, f"a fault of ours ({type(error).__name__}); the log says more"

    def _note(self, name: str, ok: bool, detail: str) -> None:
        before = self._known.get(name)
        is_news = before is None or before.ok is not ok
        since = self.ctx.clock.now() if is_news or before is None else before.since
        self._known[name] = Check(name, ok, detail, since)

    def _database(self) -> str:
        with self.ctx.store.transaction() as uow:
            uow.events.last_id()
        return "answers"

    def _ray(self) -> str:
        nodes = self.ctx.cluster.nodes()
        return f"{len(nodes)} nodes"

    def _mlflow(self) -> str:
        self.ctx.tracker.find("none", project=DEFAULT_PROJECT)
        return "answers"

    def _folders(self) -> str:
        self.ctx.files.check_writable()
        return "can be written"

    def _disk(self) -> str:
        self._disk_bytes = None
        free, size = self.ctx.files.free_bytes(), self.ctx.files.size_bytes()
        self._disk_bytes = (free, size)
        if free < _LEAST_FREE_BYTES:
            raise OSError(f"only {free / 2**20:.0f} MiB are free for the folders of runs")
        return f"{free / 2**30:.0f} GiB free"

    def _loops(self) -> str:
        late = {name: age for name, age in self.loop_ages().items() if age > _LONGEST_LAG_S}
        if late:
            raise TimeoutError(", ".join(f"{name} for {age:.0f} s" for name, age in late.items()))
        return "all turn"
