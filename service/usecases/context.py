"""Everything outside of a decision, in one bundle that is passed in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.access import Token
from service.domain.estimates import NO_PRICES, Prices
from service.domain.metrics.counters import NULL_COUNTERS, Counters
from service.domain.ports import Clock, Cluster, Files, LogStore, Tracker
from service.domain.repositories.unit_of_work import Store


@dataclass(frozen=True)
class Policy:
    """Numbers that a person may set."""

    max_attempts: int = 3
    """Bad ends in a row, without progress, after which a run has failed."""

    lease_s: float = 15.0
    """After so long without a word of its service process, another one looks after a run."""

    backfill_timeout_s: float = 120.0
    """How long a run in the queue lets smaller ones pass."""

    autoscales_to: tuple[tuple[float, float], ...] = ()
    """CPUs and GPUs of each node that the cluster has when it is largest."""

    prices: Prices = NO_PRICES
    stall_timeout_s: float = 300.0
    stop_grace_s: float = 30.0
    lost_timeout_s: float = 90.0
    """Silence after which an attempt that the cluster does not know counts as lost: as long as a
    driver without a head may live on."""

    shrink_timeout_s: float = 30.0
    """How long a run that may go on with fewer processes waits for room for all of them: Ray takes
    some seconds to count what a lost attempt has given back."""


@dataclass(frozen=True)
class Context:
    """What usecases and loops act on."""

    store: Store
    cluster: Cluster
    tracker: Tracker
    files: Files
    logs: LogStore
    clock: Clock
    policy: Policy
    service_url: str
    mlflow_url: str
    """Where workers reach MLflow."""

    mlflow_public_url: str
    """Where people open it."""

    signing_key: bytes | None = None
    """What workers' seals are made with; none: access control is off and there are none."""

    static_tokens: Mapping[str, Token] = field(default_factory=dict)
    """Access that the environment gives, by id: good while it does."""

    counters: Counters = NULL_COUNTERS
    owner: str = "service"
    """This service process among all: who holds its leases."""
