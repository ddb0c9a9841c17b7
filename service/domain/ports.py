"""Ports: protocols of the external systems that the service needs; adapters implement them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Protocol

from configs.backbone_weights import PretrainedWeights
from configs.protocol.dataset_statistics import DatasetStatistics
from configs.protocol.image_hashes import ImageHashes
from configs.protocol.log_limits import LogLimits
from configs.protocol.names import ExitCode
from configs.protocol.records import Record
from configs.spec.dataset import DatasetManifest
from service.domain.retention import RunPart
from service.domain.states import RunState

TrackerStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

FINAL_STATUS: Final[dict[RunState, TrackerStatus]] = {
    RunState.SUCCEEDED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "KILLED",
}
"""The MLflow status of a run that is over."""


JobState = Literal["pending", "running", "stopped", "succeeded", "failed"]


@dataclass(frozen=True)
class Job:
    """The state of an attempt's job, as the cluster reports it."""

    state: JobState
    exit_code: int | None = None
    message: str = ""
    node_id: str | None = None
    """Where it runs or ran; None if unknown."""

    ended_at: datetime | None = None
    """None while it runs, and if the cluster does not say it."""

    @property
    def is_over(self) -> bool:
        """Whether its processes have ended."""
        return self.state in ("stopped", "succeeded", "failed")

    @property
    def has_exited_by_itself(self) -> bool:
        """Whether it ended with one of our exit codes, so that no process of it remains."""
        return self.is_over and self.exit_code in set(ExitCode)


@dataclass(frozen=True)
class JobRequest:
    """A job to submit."""

    submission_id: str
    command: tuple[str, ...]
    num_cpus: int
    num_gpus: int
    metadata: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables of its processes."""

    avoid: frozenset[str] = frozenset()
    """Ids of nodes where it must not run."""

    node_id: str | None = None
    """The only node where it may run; None if any."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    total_cpus: float
    total_gpus: float
    free_cpus: float
    free_gpus: float
    id: str = ""
    """The cluster's id; empty for a node that an autoscaler could add."""

    gpu_kind: str = ""
    """The cluster's name of its GPUs, as A100; empty if it has none or the kind is unknown."""


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The time, aware and in UTC."""


class Cluster(Protocol):
    """Runs jobs.

    Every method may raise `ClusterUnreachable`; those about one job, and `jobs`, may also raise
    `ClusterFault`.
    """

    def submit(self, order: JobRequest) -> None:
        """Submit a job, once per submission id; raises `JobRefused` if the cluster rejects it."""

    def get_job(self, submission_id: str) -> Job | None:
        """The job, or None if the cluster does not know it."""

    def jobs(self) -> dict[str, Job]:
        """All jobs that the cluster knows, by submission id."""

    def stop(self, submission_id: str) -> None:
        """Stop a job: SIGTERM, later SIGKILL."""

    def delete(self, submission_id: str) -> None:
        """Remove a job that is over, and its log, from the cluster's table; or do nothing."""

    def logs(self, submission_id: str) -> str:
        """The whole log of a job; empty if the job is unknown."""

    def nodes(self) -> tuple[Node, ...]:
        """The nodes that are up."""

    def recent_nodes(self) -> tuple[Node, ...]:
        """The nodes that were up a moment ago, for requests of which there may be many."""


@dataclass(frozen=True)
class TrackerExperiment:
    """An MLflow experiment, which holds the runs of a project."""

    id: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ModelRelease:
    """A version of a registered model, from a model among the artifacts of an MLflow run."""

    name: str
    mlflow_run_id: str
    path: str
    """Of the model, relative to the run's artifacts."""

    alias: str
    """Moves to this version."""

    description: str
    tags: Mapping[str, str]


class Tracker(Protocol):
    """Tracks experiments. Every method may raise `TrackerUnreachable`."""

    def find(self, run_id: str, *, project: str) -> str | None:
        """The id of the MLflow run of a run; None if there is none."""

    def find_sweep(self, sweep_id: str, *, project: str) -> str | None:
        """The id of the MLflow run of a sweep; None if there is none."""

    def make_run(self, name: str, *, project: str, tags: Mapping[str, str], at: datetime) -> str:
        """Create an MLflow run and return its id."""

    def set_tags(self, mlflow_run_id: str, tags: Mapping[str, str]) -> None:
        """Set or replace tags; raises `TrackerRefused` if the tracker rejects them."""

    def find_or_create_experiment(self, project: str) -> TrackerExperiment:
        """The experiment of a project; it is created if it does not exist."""

    def set_experiment_tags(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """As `set_tags`, for an experiment; it is refused if the experiment was deleted."""

    def log_metrics(self, mlflow_run_id: str, values: Mapping[str, float], *, at: datetime) -> None:
        """Log values at step 0; raises `TrackerRefused` if the tracker rejects them."""

    def status(self, mlflow_run_id: str) -> TrackerStatus | None:
        """The status of a run; None if the tracker does not know the run."""

    def set_status(self, mlflow_run_id: str, status: TrackerStatus, *, at: datetime) -> None:
        """Set the status of a run; raises `TrackerRefused` if the tracker rejects it."""

    def register_model(self, release: ModelRelease) -> str:
        """The version of a release in the model registry, created unless its run has one.

        Raises `TrackerRefused` if the tracker rejects it. May be repeated after any interruption.
        """


class Files(Protocol):
    """The folders of runs, datasets and teachers.

    Workers can write to them: what is a link, or leads through one, counts as missing.
    """

    def run_dir(self, run_id: str) -> Path:
        """The folder of a run."""

    def sweep_dir(self, sweep_id: str) -> Path:
        """The folder of a sweep."""

    def manifest(self, root: Path) -> DatasetManifest:
        """The manifest of the dataset in a folder; raises `PathRefused` if there is none."""

    def statistics(self, root: Path) -> DatasetStatistics | None:
        """The statistics of the dataset in a folder; None if there are none, or invalid ones."""

    def image_hashes(self, root: Path) -> ImageHashes | None:
        """Those of a dataset's folder; None if there are none, or they cannot be read."""

    def folder(self, path: Path, *, field: str) -> Path:
        """The resolved path of a folder.

        Raises `PathRefused` if there is no such folder, or if it is outside of the allowed roots.
        """

    def file(self, path: Path, *, field: str) -> Path:
        """The resolved path of a file; raises `PathRefused` as `folder` does."""

    def check_writable(self) -> None:
        """Raise `OSError` if the file system of the runs' folders cannot be written."""

    def free_bytes(self) -> int:
        """Free bytes of the file system of the runs' folders."""

    def size_bytes(self) -> int:
        """Total bytes of the file system of the runs' folders."""

    def has(self, path: Path) -> bool:
        """Whether the file exists."""

    def select_existing(self, folder: Path, names: Iterable[str]) -> list[str]:
        """Those of the names that files in a folder have; no name if there is no folder."""

    def sha256(self, path: Path) -> str | None:
        """The SHA-256 of a file; None if it does not exist."""

    def write(self, path: Path, text: str, *, is_secret: bool = False) -> None:
        """Write a file atomically; only its owner may read one that `is_secret`."""

    def spool_records(self, run_id: str, position: int) -> list[Record]:
        """The records of a run's spool from `position` on."""

    def length_bytes(self, path: Path) -> int:
        """The size of a file; 0 if it does not exist."""

    def text(self, path: Path) -> bytes:
        """A whole file; empty if it does not exist. Raises `FileTooLarge`."""

    def part(self, path: Path, *, offset: int = 0, limit: int) -> bytes:
        """A file from `offset` on, up to `limit` bytes; empty if it does not exist."""


class Disposal(Protocol):
    """Deletes files of runs; it never follows a link, and never leaves their folders."""

    def measure(self, run_id: str, part: RunPart) -> int | None:
        """The bytes that a deletion would free; None if there is nothing to delete."""

    def delete(self, run_id: str, part: RunPart) -> int | None:
        """Delete files of a run; returns the freed bytes, or None if there was nothing."""

    def finish(self) -> int:
        """Complete interrupted deletions; returns their number."""


@dataclass(frozen=True)
class WeightsStatus:
    """Whether pretrained weights are on the machine of the workers."""

    is_present: bool
    command: str
    """A command line that gets them there."""


class WorkerFiles(Protocol):
    """Packages and caches of workers on the machine of the service."""

    def look_up(self, weights: PretrainedWeights) -> WeightsStatus:
        """Whether a worker would find the weights where it looks for them."""


@dataclass(frozen=True)
class LogPart:
    """Consecutive bytes of a log."""

    offset: int
    """Of its first byte. Larger than the offset that was asked for if that part is left out."""

    content: bytes


class LogStore(Protocol):
    """Stores the logs of attempts, so that they survive the nodes where they were written.

    Of a log that exceeds the limits, the beginning and the end are kept.
    """

    @property
    def limits(self) -> LogLimits: ...

    def append(
        self, run_id: str, attempt: int, *, offset: int, content: bytes, after_gap: bool = False
    ) -> int:
        """Store what is new of `content`, which begins at `offset`; return the next offset.

        `after_gap`: the bytes between the stored ones and `offset` are left out. It has no effect
        until the beginning is stored.
        """

    def size_bytes(self, run_id: str, attempt: int) -> int:
        """The next expected offset: the number of bytes with those that are left out."""

    def list_attempts(self, run_id: str, *, after: int) -> list[int]:
        """The attempts above `after` whose logs are not empty."""

    def read(self, run_id: str, attempt: int, *, offset: int, limit: int) -> LogPart:
        """Read up to `limit` bytes from `offset` on; empty at the end."""
