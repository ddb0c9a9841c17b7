"""The records in a worker's spool, and their delivery to the service."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from configs.protocol.failure import FailureReason
from configs.spec.base import Contract, Sha256, UtcDatetime, replace_control_characters

Text = Annotated[str, AfterValidator(replace_control_characters)]
"""What a worker writes and terminals show; it may come from other programs."""


class Started(Contract):
    """An attempt has started: on which machine, with which data, from which epoch."""

    kind: Literal["started"] = "started"
    at: UtcDatetime
    attempt: int
    host: Text
    pid: int
    device: Text
    resumed_from_epoch: int
    teacher_sha256: Sha256 | None
    dataset_name: str
    dataset_digest: Sha256
    versions: dict[str, str]
    model_sha256: Sha256 | None = None
    """SHA-256 of the detector that is evaluated or exported. None for training."""


class Metrics(Contract):
    """Metric values of one step; a repeated record has the same time."""

    kind: Literal["metrics"] = "metrics"
    at: UtcDatetime
    attempt: int
    step: Annotated[int, Field(ge=0, le=2**53)]
    """Optimizer steps since the start of the run."""

    values: dict[str, float]


class Progress(Contract):
    """The progress of an attempt."""

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
    """A file in the run's folder to upload to MLflow."""

    kind: Literal["artifact"] = "artifact"
    at: UtcDatetime
    attempt: int
    path: str
    """Relative to the run's folder; MLflow's artifacts have the same subfolders."""


class Tracked(Contract):
    """The MLflow run that all attempts of this run log to."""

    kind: Literal["tracked"] = "tracked"
    at: UtcDatetime
    attempt: int
    mlflow_run_id: str


class Note(Contract):
    """A message for the run's events: a fallback, a cleanup, fewer processes."""

    kind: Literal["note"] = "note"
    at: UtcDatetime
    attempt: int
    text: Annotated[Text, Field(max_length=2000)]


Result = Literal["succeeded", "failed", "cancelled", "stopped"]
"""How an attempt ended. `stopped`: as the service asked; the run resumes later."""


class Outcome(Contract):
    """The final record of an attempt."""

    kind: Literal["outcome"] = "outcome"
    at: UtcDatetime
    attempt: int
    result: Result
    reason: FailureReason | None = None
    message: Text = ""
    best_map: float | None = None
    best_epoch: int | None = None
    node_id: Annotated[str, Field(max_length=64)] | None = None
    """Ray's id of the node where one of several processes failed. None if it is unknown, or if the
    only process runs on the node of its job."""


Record = Annotated[
    Started | Metrics | Progress | Artifact | Tracked | Note | Outcome, Field(discriminator="kind")
]


Destination = Literal["service", "mlflow"]
"""A receiver of a spool's records."""

PendingRecords = dict[Destination, Annotated[int, Field(ge=0, le=2**53)]]
"""Number of records that are not yet delivered, by destination."""


class Delivery(Contract):
    """Consecutive records of a spool. A delivery without records is a heartbeat."""

    first: Annotated[int, Field(ge=0)]
    """Position of the first record in the spool, from 0."""

    records: tuple[Record, ...]
    pending_records: PendingRecords = Field(default_factory=dict)
    """Counts when this was sent, including these records. A missing destination is unknown."""


StopKind = Literal["cancel", "pause", "preempt"]
"""Why the service asks an attempt to stop."""


class Receipt(Contract):
    """The service's response to a delivery."""

    next: Annotated[int, Field(ge=0)]
    """Position of the first record that the service has not received."""

    stop: StopKind | None = None
    """Why to write a checkpoint and stop. None to continue."""

    next_due_s: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    """Seconds after which the next delivery is expected, even without records. None from an older
    service."""


class NodeAttempts(Contract):
    """The submission ids of the attempts that have processes on a node."""

    attempts: tuple[str, ...]


class FinishedAttempts(Contract):
    """Those of a node's attempts that are finished according to the service's database."""

    finished: tuple[str, ...]


class LogReceipt(Contract):
    """The service's response to a log chunk."""

    next: Annotated[int, Field(ge=0)]
    """Bytes of the log that the service has, the offset of the next chunk."""
