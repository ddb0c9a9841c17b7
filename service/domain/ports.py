"""What the domain needs of the world, as small protocols; the simulated twins are in adapters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Protocol

from configs.protocol.names import ExitCode
from configs.protocol.records import Record
from configs.spec.dataset import DatasetManifest
from service.domain.states import RunState

TrackerStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

FINAL_STATUS: Final[dict[RunState, TrackerStatus]] = {
    RunState.SUCCEEDED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "KILLED",
}
"""What MLflow shows of a run that is over."""


JobState = Literal["pending", "running", "stopped", "succeeded", "failed"]


@dataclass(frozen=True)
class Job:
    """What the cluster says of an attempt's job."""

    state: JobState
    exit_code: int | None = None
    message: str = ""
    node_id: str | None = None
    """Where it runs, or ran."""

    @property
    def is_over(self) -> bool:
        """Whether its processes are gone."""
        return self.state in ("stopped", "succeeded", "failed")

    @property
    def has_exited_by_itself(self) -> bool:
        """Whether it ended as our program ends, so that it left no process behind."""
        return self.is_over and self.exit_code in set(ExitCode)


@dataclass(frozen=True)
class JobRequest:
    """A job to submit: its command line and what it takes."""

    submission_id: str
    command: tuple[str, ...]
    num_cpus: int
    num_gpus: int
    metadata: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    """What its processes find in their environment."""

    avoid: frozenset[str] = frozenset()
    """Nodes where it is not to run."""

    node_id: str | None = None
    """The only node where it is to run; none: any."""


@dataclass(frozen=True)
class Node:
    """One machine of the cluster."""

    total_cpus: float
    total_gpus: float
    free_cpus: float
    free_gpus: float
    id: str = ""
    """As the cluster knows it; empty: one that could be added."""

    gpu_kind: str = ""
    """What the cluster calls its GPUs, as A100; empty: it has none, or nobody knows."""


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """An aware time in UTC."""


class Cluster(Protocol):
    """Where jobs run. Every method may raise `ClusterUnreachable`."""

    def submit(self, order: JobRequest) -> None:
        """Submit a job; a second submit of the same id changes nothing."""

    def get_job(self, submission_id: str) -> Job | None:
        """What the cluster says of a job; none if it does not know it."""

    def jobs(self) -> dict[str, Job]:
        """Every job that the cluster knows, by its submission id."""

    def stop(self, submission_id: str) -> None:
        """Ask a job to end: SIGTERM, later SIGKILL."""

    def logs(self, submission_id: str) -> str:
        """Everything the job has written; empty if the job is unknown."""

    def nodes(self) -> tuple[Node, ...]:
        """The machines there are."""


class Tracker(Protocol):
    """Where numbers are compared. Every method may raise `TrackerUnreachable`."""

    def find(self, run_id: str, *, project: str) -> str | None:
        """The id of the MLflow run of a run of a project."""

    def find_sweep(self, sweep_id: str, *, project: str) -> str | None:
        """The id of the MLflow run that stands for a sweep of a project."""

    def make_run(self, name: str, *, project: str, tags: Mapping[str, str], at: datetime) -> str:
        """A new MLflow run, and its id."""

    def set_tag(self, mlflow_run_id: str, key: str, value: str) -> None:
        """Give a run a tag, whatever it had; `TrackerRefused` if the tracker never will."""

    def log_metrics(self, mlflow_run_id: str, values: Mapping[str, float], *, at: datetime) -> None:
        """Log values to a run; `TrackerRefused` if the tracker never will."""

    def status(self, mlflow_run_id: str) -> TrackerStatus | None:
        """What the tracker shows; none if it does not know the run."""

    def set_status(self, mlflow_run_id: str, status: TrackerStatus, *, at: datetime) -> None:
        """Show a status; `TrackerRefused` if the tracker never will."""


class Files(Protocol):
    """The folders of runs, datasets and teachers."""

    def run_dir(self, run_id: str) -> Path:
        """A run's folder."""

    def sweep_dir(self, sweep_id: str) -> Path:
        """A sweep's folder."""

    def manifest(self, root: Path) -> DatasetManifest:
        """The manifest of the dataset in a folder; `PathRefused` if there is none."""

    def folder(self, path: Path, *, field: str) -> Path:
        """A folder's path, resolved; `PathRefused` if it is none or leaves the allowed roots."""

    def file(self, path: Path, *, field: str) -> Path:
        """A file's path, resolved; `PathRefused` if it is none or leaves the allowed roots."""

    def check_writable(self) -> None:
        """Raises `OSError` if nothing can be written where the folders of runs are."""

    def free_bytes(self) -> int:
        """Room where the folders of runs are."""

    def size_bytes(self) -> int:
        """Of the file system where the folders of runs are."""

    def has(self, path: Path) -> bool:
        """Whether there is such a file."""

    def sha256(self, path: Path) -> str | None:
        """A file's digest; none if there is no such file."""

    def write(self, path: Path, text: str, *, is_secret: bool = False) -> None:
        """Write a whole file or none; a secret one is for its owner's eyes only."""

    def spool_records(self, run_id: str, position: int) -> list[Record]:
        """Records of a run's spool from `position` on."""

    def text(self, path: Path, *, offset: int = 0, limit: int = -1) -> bytes:
        """A file from `offset` on, up to `limit` bytes; nothing if there is none."""


class LogStore(Protocol):
    """Logs of attempts, kept where no node or head takes them along."""

    def append(self, run_id: str, attempt: int, *, offset: int, content: bytes) -> int:
        """Keep what is new of `content`; returns the offset to go on from."""

    def size_bytes(self, run_id: str, attempt: int) -> int:
        """How many bytes there are."""

    def read(self, run_id: str, attempt: int, *, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset` on."""
