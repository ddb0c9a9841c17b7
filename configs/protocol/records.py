"""What a worker says: the records of its spool, and their delivery to the service."""

from typing import Annotated, Literal

from pydantic import Field

from configs.protocol.failure import FailureReason
from configs.spec.base import Contract, Sha256, UtcDatetime


class Started(Contract):
    """An attempt has begun: where, on what, and from which epoch."""

    kind: Literal["started"] = "started"
    at: UtcDatetime
    attempt: int
    host: str
    pid: int
    device: str
    resumed_from_epoch: int
    teacher_sha256: Sha256 | None
    dataset_name: str
    dataset_digest: Sha256
    versions: dict[str, str]
    model_sha256: Sha256 | None = None
    """Of the detector that is measured or exported."""


class Metrics(Contract):
    """Values of one step; the same step is never said twice with another time."""

    kind: Literal["metrics"] = "metrics"
    at: UtcDatetime
    attempt: int
    step: Annotated[int, Field(ge=0, le=2**53)]
    """Optimizer steps since the run began."""

    values: dict[str, float]


class Progress(Contract):
    """How far training is."""

    kind: Literal["progress"] = "progress"
    at: UtcDatetime
    attempt: int
    phase: Literal["preparing", "training", "evaluating", "finishing"]
    epoch: int
    epochs: int
    step: int
    steps: int
    eta_s: float | None


class Artifact(Contract):
    """A file of the run's folder that belongs in the tracker."""

    kind: Literal["artifact"] = "artifact"
    at: UtcDatetime
    attempt: int
    path: str
    """Relative to the run's folder; its folder there is its folder in the tracker."""


class Tracked(Contract):
    """The MLflow run that this run is logged to, for life."""

    kind: Literal["tracked"] = "tracked"
    at: UtcDatetime
    attempt: int
    mlflow_run_id: str


class Note(Contract):
    """Something worth a line among the run's events: a fall-back, a clean-up, fewer processes."""

    kind: Literal["note"] = "note"
    at: UtcDatetime
    attempt: int
    text: Annotated[str, Field(max_length=2000)]


Result = Literal["succeeded", "failed", "cancelled", "stopped"]
"""How an attempt ended; `stopped`: it left as the service asked, and the run goes on later."""


class Outcome(Contract):
    """The last word of an attempt."""

    kind: Literal["outcome"] = "outcome"
    at: UtcDatetime
    attempt: int
    result: Result
    reason: FailureReason | None = None
    message: str = ""
    best_map: float | None = None
    best_epoch: int | None = None
    node_id: Annotated[str, Field(max_length=64)] | None = None
    """Ray's id of the node where one process of several failed; none: it is not known, or there
    is one process, which runs where its job does."""


Record = Annotated[
    Started | Metrics | Progress | Artifact | Tracked | Note | Outcome, Field(discriminator="kind")
]


Destination = Literal["service", "mlflow"]
"""Where the records of a spool are brought."""

PendingRecords = dict[Destination, Annotated[int, Field(ge=0, le=2**53)]]
"""How many of a spool's records each destination lacks."""


class Delivery(Contract):
    """Records of a spool in order; an empty one is a heartbeat."""

    first: Annotated[int, Field(ge=0)]
    """Position in the spool of the first record, counted from 0."""

    records: tuple[Record, ...]
    pending_records: PendingRecords = Field(default_factory=dict)
    """As this was sent, these records included; nothing is said of one that is missing."""


StopKind = Literal["cancel", "pause", "preempt"]
"""Why the service wants an attempt to leave."""


class Receipt(Contract):
    """The service's answer to a delivery."""

    next: Annotated[int, Field(ge=0)]
    """Position of the first record that the service does not have."""

    stop: StopKind | None = None
    """Write a checkpoint and leave; none: go on."""


class NodeAttempts(Contract):
    """What a node asks of the service: attempts that have processes there, by submission id."""

    attempts: tuple[str, ...]


class FinishedAttempts(Contract):
    """The service's answer: those of them that its database says are over."""

    finished: tuple[str, ...]


class LogReceipt(Contract):
    """The service's answer to a piece of an attempt's log."""

    next: Annotated[int, Field(ge=0)]
    """Bytes of the log that the service has; what is sent next begins there."""
