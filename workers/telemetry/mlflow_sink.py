"""Delivers records to MLflow, to one MLflow run for all attempts of a run.

Repeated deliveries change nothing: a record has its own time, and MLflow stores one point for each
(key, value, time, step). No other module of a training process imports mlflow, and this one is
imported by the thread that delivers.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException, RestException
from pydantic import JsonValue

from configs.metric_keys import LOSS_SHARE_PREFIX
from configs.protocol.names import MLFLOW_EXPERIMENT, RunFile, Tag
from configs.protocol.records import Artifact, Metrics, Outcome, Record, Started
from configs.protocol.report import ReportInputs
from configs.spec.jobs import JobSpec, ReportSpec, get_dataset, get_task
from configs.spec.references import DatasetFiles
from workers.errors import summarize_error
from workers.telemetry.mlflow_connection import configure_mlflow_client
from workers.telemetry.shipper import SinkProtocolError, SinkUnavailable

_METRICS_PER_BATCH = 1000
_MAX_PARAM_CHARS = 6000
_NOT_PARAMS = {"tags", "checkpoints", "resources", "loss_shares_every_steps"}
_MAX_DIGEST_CHARS = 36
_DATASET_CONTEXT = "train/validation"
"""MLflow has one context for a dataset, and ours contain both splits."""

_FINAL_STATUS = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
_UPLOAD_REJECTED = {400, 413, 415, 422}
"""HTTP statuses of an upload that a retry cannot change."""

_ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """What the MLflow run of a run is created from."""

    run_id: str
    name: str
    preset: str | None
    spec: JobSpec
    run_dir: Path
    experiment: str = MLFLOW_EXPERIMENT


class MlflowSink:
    """Implements `Sink` with the MLflow run of one run."""

    name = "MLflow"
    pause_s = 0.0

    def __init__(
        self,
        url: str,
        tracked: TrackedRun,
        *,
        sets_final_status: bool,
        is_live: bool,
        get_known_run_id: Callable[[], str | None],
        on_run_found: Callable[[str], None],
    ) -> None:
        """`sets_final_status`: this sink sets it, because the service does not track the run.

        `is_live`: an attempt is running, so the MLflow run is set to RUNNING. `get_known_run_id`
        returns the MLflow run of earlier deliveries, None before the first; `on_run_found` is
        called with the MLflow run that this sink delivers to.
        """
        configure_mlflow_client(url)
        self._client = MlflowClient(tracking_uri=url)
        self._tracked = tracked
        self._sets_final_status = sets_final_status
        self._is_live = is_live
        self._get_known_run_id = get_known_run_id
        self._on_run_found = on_run_found
        self._run_id: str | None = None

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        with self._translate_errors():
            run_id = self._run_id or self._find_or_create()
        if self._run_id is None:
            if first > 0 and run_id != self._get_known_run_id():
                log.warning("MLflow run %s is a new one; all records are logged to it.", run_id)
                return 0
            self._on_run_found(run_id)
            self._run_id = run_id
        with self._translate_errors():
            self._log_metrics(run_id, [record for record in records if isinstance(record, Metrics)])
        for index, record in enumerate(records):
            try:
                with self._translate_errors():
                    self._log_other(run_id, record)
            except SinkUnavailable:
                if index == 0:
                    raise
                return first + index  # do not repeat the uploads that succeeded
        return first + len(records)

    def close(self) -> None:
        """Does nothing: mlflow keeps its connections until the process ends."""

    def _find_or_create(self) -> str:
        experiment_id = self._find_or_create_experiment()
        runs = self._search_runs(experiment_id) or [self._create_run(experiment_id)]
        run = self._select_run(runs)
        self._log_missing_params(run)
        if self._is_live and run.info.status != "RUNNING":
            self._client.update_run(run.info.run_id, status="RUNNING")
        return str(run.info.run_id)

    def _find_or_create_experiment(self) -> str:
        name = self._tracked.experiment
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return str(self._client.create_experiment(name))
        if experiment.lifecycle_stage == "deleted":
            raise SinkProtocolError(
                f"its experiment {name!r} was deleted; bring it back with "
                f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`."
            )
        return str(experiment.experiment_id)

    def _create_run(self, experiment_id: str) -> Run:
        """Create the run; raises `SinkUnavailable` if another process creates one meanwhile.

        A process that then sees a second run deletes its own and searches again later. Two
        processes cannot both see their own run alone: the later search finds both. Start times
        cannot decide instead, because the clients set them.
        """
        tracked = self._tracked
        tags = {
            **tracked.spec.tags,
            str(Tag.RUN_ID): tracked.run_id,
            str(Tag.TASK): get_task(tracked.spec),
        }
        if tracked.preset is not None:
            tags[str(Tag.PRESET)] = tracked.preset
        created = self._client.create_run(experiment_id, tags=tags, run_name=tracked.name)
        if len(self._search_runs(experiment_id)) > 1:
            self._client.delete_run(created.info.run_id)
            raise SinkUnavailable("another process is creating the same run")
        return created

    def _search_runs(self, experiment_id: str) -> list[Run]:
        quote = '"' if "'" in self._tracked.run_id else "'"
        tag = f"tags.`{Tag.RUN_ID}` = {quote}{self._tracked.run_id}{quote}"
        return list(self._client.search_runs([experiment_id], filter_string=tag))

    def _select_run(self, runs: Sequence[Run]) -> Run:
        """The run of earlier deliveries, or else the earliest."""
        known_id = self._get_known_run_id()
        return min(
            runs,
            key=lambda run: (run.info.run_id != known_id, run.info.start_time, run.info.run_id),
        )

    def _log_missing_params(self, run: Run) -> None:
        """Params that MLflow has keep their values, because it refuses to change them."""
        params = [
            Param(key, value)
            for key, value in flatten_params(self._tracked.spec).items()
            if key not in run.data.params
        ]
        self._client.log_batch(run.info.run_id, params=params, synchronous=True)

    def _log_metrics(self, run_id: str, records: Sequence[Metrics]) -> None:
        points = [
            Metric(key, value, _ms(record), record.step)
            for record in records
            for key, value in record.values.items()
            if _belongs_in_charts(key)
        ]
        for first in range(0, len(points), _METRICS_PER_BATCH):
            batch = points[first : first + _METRICS_PER_BATCH]
            self._client.log_batch(run_id, metrics=batch, synchronous=True)

    def _log_other(self, run_id: str, record: Record) -> None:
        if isinstance(record, Started):
            self._log_start(run_id, record)
        elif isinstance(record, Artifact):
            self._log_artifact(run_id, record)
        elif isinstance(record, Outcome) and self._sets_final_status:
            status = _FINAL_STATUS[record.result]
            self._client.set_terminated(run_id, status, end_time=_ms(record))

    def _log_start(self, run_id: str, record: Started) -> None:
        tags = {Tag.DATASET_DIGEST: record.dataset_digest, Tag.HOST: record.host}
        if record.teacher_sha256 is not None:
            tags[Tag.TEACHER_SHA256] = record.teacher_sha256
        if record.model_sha256 is not None:
            tags[Tag.MODEL_SHA256] = record.model_sha256
        run_tags = [RunTag(str(key), value) for key, value in tags.items()]
        self._client.log_batch(run_id, tags=run_tags, synchronous=True)
        self._client.log_inputs(run_id, [self._dataset_input(record)])
        if self._sets_final_status:
            self._client.update_run(run_id, status="RUNNING")

    def _dataset_input(self, record: Started) -> DatasetInput:
        root = _get_dataset_root(self._tracked)
        entity = Dataset(
            name=record.dataset_name,
            digest=record.dataset_digest[:_MAX_DIGEST_CHARS],
            source_type="code" if root is None else "local",
            source=json.dumps({"tags": {}} if root is None else {"uri": root}),
        )
        return DatasetInput(entity, [InputTag("mlflow.data.context", _DATASET_CONTEXT)])

    def _log_artifact(self, run_id: str, record: Artifact) -> None:
        path = self._tracked.run_dir / record.path
        folder = str(Path(record.path).parent)
        try:
            self._client.log_artifact(run_id, str(path), None if folder == "." else folder)
        except requests.RequestException as error:
            if error.response is None or error.response.status_code not in _UPLOAD_REJECTED:
                raise
            log.warning("MLflow rejects the file %s, which is not logged: %s", path, error)
        except OSError as error:
            log.warning("%s is missing or unreadable and is not logged to MLflow: %s", path, error)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except RestException as error:
            # The run may have been deleted, or lost by the server: search again next time.
            self._run_id = None
            if error.error_code == _ALREADY_EXISTS:
                raise SinkUnavailable(summarize_error(error)) from error
            raise SinkProtocolError(summarize_error(error)) from error
        except (MlflowException, requests.RequestException) as error:
            raise SinkUnavailable(summarize_error(error)) from error


def search_experiments(url: str) -> None:
    """Send a request with mlflow's client; raises `SinkUnavailable` unless MLflow answers."""
    configure_mlflow_client(url)
    try:
        MlflowClient(tracking_uri=url).search_experiments(max_results=1)
    except (MlflowException, requests.RequestException) as error:
        raise SinkUnavailable(summarize_error(error)) from error


def _get_dataset_root(tracked: TrackedRun) -> str | None:
    """The folder of the dataset that a run reads. None if only its name is known."""
    if isinstance(tracked.spec, ReportSpec):
        inputs = (tracked.run_dir / RunFile.REPORT_INPUTS).read_bytes()
        return ReportInputs.model_validate_json(inputs).dataset.root
    dataset = get_dataset(tracked.spec)
    return dataset.root if isinstance(dataset, DatasetFiles) else None


def flatten_params(spec: JobSpec) -> dict[str, str]:
    """The spec as MLflow params: dotted fields, without unset ones and those without effect."""
    document = spec.model_dump(mode="json", exclude=_NOT_PARAMS)
    return {
        key: str(value)[:_MAX_PARAM_CHARS]
        for key, value in _leaves(document, prefix="")
        if value is not None
    }


def _leaves(value: JsonValue, *, prefix: str) -> Iterator[tuple[str, JsonValue]]:
    if not isinstance(value, dict):
        yield prefix, value
        return
    for key, child in value.items():
        yield from _leaves(child, prefix=f"{prefix}.{key}" if prefix else key)


def _belongs_in_charts(key: str) -> bool:
    """False for loss shares: a run has 60 and more, whose charts would precede the one of mAP.

    The service has them for `tandem loss-shares`.
    """
    return not key.startswith(LOSS_SHARE_PREFIX)


def _ms(record: Metrics | Outcome) -> int:
    return round(record.at.timestamp() * 1000)
