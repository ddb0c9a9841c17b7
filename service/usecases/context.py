"""The dependencies and settings that every use case and loop receives."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.domain.access import Token
from service.domain.estimates import NO_PRICES, Prices
from service.domain.heartbeats import RunningCount
from service.domain.metrics.counters import NULL_COUNTERS, Counters
from service.domain.mlflow_pages import MlflowPages
from service.domain.ports import Clock, Cluster, Disposal, Files, LogStore, Tracker, WorkerFiles
from service.domain.repositories.unit_of_work import Store, UnitOfWork
from service.domain.retention import DEFAULT_RETENTION, RetentionPolicy


@dataclass(frozen=True)
class Policy:
    """Limits and timeouts from the settings."""

    max_attempts: int = 3
    """A run fails after this many consecutive failed attempts without progress."""

    lease_s: float = 15.0
    """Another service process takes over a run whose lease was not renewed for this long."""

    backfill_timeout_s: float = 120.0
    """How long smaller runs may overtake a waiting run before capacity is reserved for it."""

    autoscales_to: tuple[tuple[float, float], ...] = ()
    """CPUs and GPUs of every node of the cluster at its largest size."""

    prices: Prices = NO_PRICES
    retention: RetentionPolicy = DEFAULT_RETENTION
    stall_timeout_s: float = 300.0
    stop_grace_s: float = 30.0
    lost_timeout_s: float = 90.0
    """An attempt that the cluster does not know is lost after this long without a heartbeat. A
    driver may outlive its Ray head for as long."""

    shrink_timeout_s: float = 30.0
    """How long an elastic run waits for the capacity of all its processes before it resumes with
    fewer: Ray needs some seconds to count the resources that a lost attempt released."""

    @property
    def shortest_worker_limit_s(self) -> float:
        """The shortest of the times that a worker has to report or to stop."""
        return min(self.lost_timeout_s, self.stall_timeout_s, self.stop_grace_s)


@dataclass(frozen=True)
class Context:
    """Ports, settings and identity of one service process."""

    store: Store
    cluster: Cluster
    tracker: Tracker
    files: Files
    logs: LogStore
    disposal: Disposal
    clock: Clock
    policy: Policy
    service_url: str
    """Where workers reach this service."""

    mlflow_url: str
    """Where workers reach MLflow."""

    mlflow_public_url: str
    """Where browsers open MLflow."""

    mlflow_experiment_ids: dict[str, str] = field(default_factory=dict)
    """MLflow's experiments by project; a loop adds them as soon as MLflow answers."""

    worker_files: WorkerFiles | None = None
    """`None` if the service does not see the files of the workers."""

    signing_key: bytes | None = None
    """Key that signs the tokens of attempts; `None` while access control is off."""

    static_tokens: Mapping[str, Token] = field(default_factory=dict)
    """Tokens from the environment by id; they are valid for the lifetime of the process."""

    queue_changed: threading.Event = field(default_factory=threading.Event)
    """Set after a run was queued, so that this process's loop looks at the queue at once."""

    counters: Counters = NULL_COUNTERS
    running: RunningCount = field(default_factory=RunningCount)
    owner: str = "service"
    """Identity of this service process as the owner of leases."""

    @contextmanager
    def queue_transaction(self) -> Iterator[UnitOfWork]:
        """A transaction that queues a run; sets `queue_changed` after its commit."""
        with self.store.transaction() as uow:
            yield uow
        self.queue_changed.set()

    @property
    def mlflow_pages(self) -> MlflowPages:
        """URLs of MLflow's pages for browsers."""
        return MlflowPages(self.mlflow_public_url, self.mlflow_experiment_ids)
