"""In-memory cluster and tracker, for tests and for developing the service without Ray."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from configs.backbone_weights import PackagedWeights, PretrainedWeights
from configs.protocol.names import Tag
from service.domain.errors.systems import (
    ClusterFault,
    ClusterUnreachable,
    TrackerRefused,
    TrackerUnreachable,
)
from service.domain.ports import (
    Job,
    JobRequest,
    JobState,
    ModelRelease,
    Node,
    TrackerExperiment,
    TrackerStatus,
    WeightsStatus,
)


@dataclass
class SimulatedCluster:
    """Implements `ports.Cluster`: jobs stay pending until `set_job_state` changes them."""

    cluster_nodes: tuple[Node, ...] = (Node(2.0, 0.0, 2.0, 0.0),)
    is_reachable: bool = True
    ignores_stops: bool = False
    job_requests: dict[str, JobRequest] = field(default_factory=dict)
    jobs_by_id: dict[str, Job] = field(default_factory=dict)
    node_ids_by_job: dict[str, str] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    logs_by_job: dict[str, str] = field(default_factory=dict)
    requested_logs: list[str] = field(default_factory=list)
    faulty_jobs: set[str] = field(default_factory=set)
    """Jobs about which the cluster answers with an error, as it does when it lists them all."""

    num_listings: int = 0
    requested_jobs: list[str] = field(default_factory=list)
    """The ids that `get_job` was called with."""

    def submit(self, request: JobRequest) -> None:
        self._check_reachable()
        if request.submission_id not in self.jobs_by_id:
            self.job_requests[request.submission_id] = request
            self.jobs_by_id[request.submission_id] = Job("pending")

    def get_job(self, submission_id: str) -> Job | None:
        self._check_reachable()
        self.requested_jobs.append(submission_id)
        self._check_faults({submission_id})
        job = self.jobs_by_id.get(submission_id)
        return job and self._with_node(submission_id, job)

    def jobs(self) -> dict[str, Job]:
        self._check_reachable()
        self.num_listings += 1
        self._check_faults(self.jobs_by_id.keys())
        return {job_id: self._with_node(job_id, job) for job_id, job in self.jobs_by_id.items()}

    def stop(self, submission_id: str) -> None:
        """Record the stop, and stop the job unless the cluster `ignores_stops`."""
        self._check_reachable()
        self.stopped.append(submission_id)
        job = self.jobs_by_id.get(submission_id)
        if job is not None and not job.is_over and not self.ignores_stops:
            self.jobs_by_id[submission_id] = Job("stopped")

    def delete(self, submission_id: str) -> None:
        self._check_reachable()
        job = self.jobs_by_id.get(submission_id)
        if job is not None and job.is_over:
            del self.jobs_by_id[submission_id]

    def logs(self, submission_id: str) -> str:
        self._check_reachable()
        self.requested_logs.append(submission_id)
        self._check_faults({submission_id})
        return self.logs_by_job.get(submission_id, "")

    def recent_nodes(self) -> tuple[Node, ...]:
        return self.nodes()

    def nodes(self) -> tuple[Node, ...]:
        self._check_reachable()
        return self.cluster_nodes

    def set_job_state(
        self,
        submission_id: str,
        state: JobState,
        *,
        exit_code: int | None = None,
        ended_at: datetime | None = None,
    ) -> None:
        self.jobs_by_id[submission_id] = Job(state, exit_code=exit_code, ended_at=ended_at)

    def forget_jobs(self) -> None:
        """Drop all jobs, as a head that was restarted without its state does."""
        self.jobs_by_id.clear()

    def _with_node(self, submission_id: str, job: Job) -> Job:
        return replace(job, node_id=self.node_ids_by_job.get(submission_id))

    def _check_faults(self, submission_ids: Collection[str]) -> None:
        if faulty := self.faulty_jobs.intersection(submission_ids):
            raise ClusterFault(f"Ray answered 500: {', '.join(sorted(faulty))}")

    def _check_reachable(self) -> None:
        if not self.is_reachable:
            raise ClusterUnreachable("The simulated cluster is unreachable.")


@dataclass
class SimulatedTracker:
    """Implements `ports.Tracker`."""

    is_reachable: bool = True
    runs: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, TrackerStatus] = field(default_factory=dict)
    ended_at: dict[str, datetime] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    sweeps: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    experiment_tags: dict[str, dict[str, str]] = field(default_factory=dict)
    """By experiment id, which is the project's name with the prefix `e-`."""

    releases: dict[str, list[ModelRelease]] = field(default_factory=dict)
    """The versions of each registered model, from 1 on."""

    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    """The version of each model and alias."""

    def find(self, run_id: str, *, project: str) -> str | None:  # noqa: ARG002
        self._check_reachable()
        return self.runs.get(run_id)

    def find_sweep(self, sweep_id: str, *, project: str) -> str | None:  # noqa: ARG002
        self._check_reachable()
        return self.sweeps.get(sweep_id)

    def make_run(
        self,
        name: str,  # noqa: ARG002
        *,
        project: str,  # noqa: ARG002
        tags: Mapping[str, str],
        at: datetime,  # noqa: ARG002
    ) -> str:
        """Create a run that `find_sweep` finds by its tag."""
        self._check_reachable()
        mlflow_run_id = f"m-{len(self.sweeps)}"
        self.sweeps[tags[Tag.SWEEP_ID]] = mlflow_run_id
        self.tags[mlflow_run_id] = dict(tags)
        self.statuses[mlflow_run_id] = "RUNNING"
        return mlflow_run_id

    def set_tags(self, mlflow_run_id: str, tags: Mapping[str, str]) -> None:
        self._check_run(mlflow_run_id)
        self.tags.setdefault(mlflow_run_id, {}).update(tags)

    def find_or_create_experiment(self, project: str) -> TrackerExperiment:
        self._check_reachable()
        tags = self.experiment_tags.setdefault(f"e-{project}", {})
        return TrackerExperiment(f"e-{project}", dict(tags))

    def set_experiment_tags(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        self._check_reachable()
        self.experiment_tags.setdefault(experiment_id, {}).update(tags)

    def log_metrics(
        self,
        mlflow_run_id: str,
        values: Mapping[str, float],
        *,
        at: datetime,  # noqa: ARG002
    ) -> None:
        """Store the last value of each metric."""
        self._check_run(mlflow_run_id)
        self.metrics.setdefault(mlflow_run_id, {}).update(values)

    def status(self, mlflow_run_id: str) -> TrackerStatus | None:
        self._check_reachable()
        return None if mlflow_run_id in self.deleted else self.statuses.get(mlflow_run_id)

    def set_status(self, mlflow_run_id: str, status: TrackerStatus, *, at: datetime) -> None:
        self._check_run(mlflow_run_id)
        self.statuses[mlflow_run_id] = status
        self.ended_at[mlflow_run_id] = at

    def register_model(self, release: ModelRelease) -> str:
        """Refused for a run that was deleted."""
        self._check_run(release.mlflow_run_id)
        versions = self.releases.setdefault(release.name, [])
        runs = [version.mlflow_run_id for version in versions]
        if release.mlflow_run_id not in runs:
            versions.append(release)
            runs.append(release.mlflow_run_id)
        version = str(1 + runs.index(release.mlflow_run_id))
        self.aliases[release.name, release.alias] = version
        return version

    def _check_run(self, mlflow_run_id: str) -> None:
        self._check_reachable()
        if mlflow_run_id in self.deleted:
            raise TrackerRefused("The run must be in the 'active' state.")

    def _check_reachable(self) -> None:
        if not self.is_reachable:
            raise TrackerUnreachable("The simulated tracker is unreachable.")


@dataclass
class SimulatedWorkerFiles:
    """Implements `ports.WorkerFiles`: none of the weights is there unless `has_weights`."""

    has_weights: bool = False

    def look_up(self, weights: PretrainedWeights) -> WeightsStatus:
        name = weights.package if isinstance(weights, PackagedWeights) else weights.file_name
        return WeightsStatus(is_present=self.has_weights, command=f"get {name}")
