"""Brings records to MLflow: one MLflow run for the life of a run. The only file that knows mlflow.

A record carries its own time, and MLflow keeps one point per (key, value, time, step), so a
delivery that is repeated changes nothing.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException, RestException
from pydantic import JsonValue

from configs.protocol.names import MLFLOW_EXPERIMENT, Tag
from configs.protocol.records import Artifact, Metrics, Outcome, Record, Started
from configs.spec.jobs import JobSpec, get_dataset, get_task
from configs.spec.run import DatasetFiles
from workers.telemetry.shipper import SinkProtocolError, SinkUnavailable

_METRICS_A_BATCH = 1000
_LONGEST_PARAM = 6000
_NO_PARAMS = {"tags", "checkpoints", "resources", "loss_shares_every_steps", "dossier"}
_DATASET_DIGEST_LENGTH = 36
_DATASET_CONTEXT = "train/validation"
"""MLflow shows one context per dataset, and ours hold both parts."""

_FINAL_STATUS = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
_NOT_THIS_FILE = {400, 413, 415, 422}
"""Answers to an upload that another try would get again."""

_SOMEBODY_WAS_FASTER = "RESOURCE_ALREADY_EXISTS"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """What MLflow shall know of a run from the beginning."""

    run_id: str
    name: str
    preset: str | None
    spec: JobSpec
    run_dir: Path
    experiment: str = MLFLOW_EXPERIMENT


class MlflowSink:
    """The MLflow run of one run."""

    name = "MLflow"

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
        """`closes_run`: nobody else sets the final status. `is_live`: an attempt is going on."""
        configure_mlflow_client()
        self._client = MlflowClient(tracking_uri=url)
        self._tracked = tracked
        self._closes_run = sets_final_status
        self._is_live = is_live
        self._known = get_known_run_id
        self._on_found = on_run_found
        self._run_id: str | None = None

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        """Log records; `SinkUnavailable` if MLflow does not answer."""
        with self._translated():
            run_id = self._run_id or self._find_or_create()
        if self._run_id is None:
            if first > 0 and run_id != self._known():
                log.warning("MLflow run %s is new to us; everything is logged to it.", run_id)
                return 0
            self._on_found(run_id)
            self._run_id = run_id
        with self._translated():
            self._log_metrics(run_id, [record for record in records if isinstance(record, Metrics)])
        for index, record in enumerate(records):
            try:
                with self._translated():
                    self._log_other(run_id, record)
            except SinkUnavailable:
                if index == 0:
                    raise
                return first + index  # uploads that succeeded are not repeated
        return first + len(records)

    def close(self) -> None:
        """Nothing: mlflow keeps its connections for the whole process."""

    def _find_or_create(self) -> str:
        experiment_id = self._find_or_create_experiment()
        run = self._the_one_of(self._runs_of(experiment_id) or self._create_run(experiment_id))
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

    def _create_run(self, experiment_id: str) -> list[Run]:
        """The run that was created, if nobody else creates one at the same time.

        Whoever sees another one takes his own away and looks again later. Two that see only their
        own cannot be: the second to look sees the first. Start times would not do, for they are the
        clients', and not in the order in which runs come into being.
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
        if len(self._runs_of(experiment_id)) > 1:
            self._client.delete_run(created.info.run_id)
            raise SinkUnavailable("another process creates its run at this moment")
        return [created]

    def _runs_of(self, experiment_id: str) -> list[Run]:
        quote = '"' if "'" in self._tracked.run_id else "'"
        tag = f"tags.`{Tag.RUN_ID}` = {quote}{self._tracked.run_id}{quote}"
        return list(self._client.search_runs([experiment_id], filter_string=tag))

    def _the_one_of(self, found: Sequence[Run]) -> Run:
        """The one that is known already, else the earliest."""
        known = self._known()
        return min(
            found,
            key=lambda run: (run.info.run_id != known, run.info.start_time, run.info.run_id),
        )

    def _log_missing_params(self, run: Run) -> None:
        """MLflow refuses another value for a param it has; the first one stands."""
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
        ]
        for begin in range(0, len(points), _METRICS_A_BATCH):
            batch = points[begin : begin + _METRICS_A_BATCH]
            self._client.log_batch(run_id, metrics=batch, synchronous=True)

    def _log_other(self, run_id: str, record: Record) -> None:
        if isinstance(record, Started):
            self._log_start(run_id, record)
        elif isinstance(record, Artifact):
            self._log_artifact(run_id, record)
        elif isinstance(record, Outcome) and self._closes_run:
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
        if self._closes_run:
            self._client.update_run(run_id, status="RUNNING")

    def _dataset_input(self, record: Started) -> DatasetInput:
        dataset = get_dataset(self._tracked.spec)
        root = dataset.root if isinstance(dataset, DatasetFiles) else None
        entity = Dataset(
            name=record.dataset_name,
            digest=record.dataset_digest[:_DATASET_DIGEST_LENGTH],
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
            if error.response is None or error.response.status_code not in _NOT_THIS_FILE:
                raise
            log.warning("MLflow does not take %s, which stays where it is: %s", path, error)
        except OSError as error:
            log.warning("%s is gone or unreadable and is not logged to MLflow: %s", path, error)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except RestException as error:
            # The run may have been deleted, or the server has lost it: look again next time.
            self._run_id = None
            if error.error_code == _SOMEBODY_WAS_FASTER:
                raise SinkUnavailable(_first_line(error)) from error
            raise SinkProtocolError(_first_line(error)) from error
        except (MlflowException, requests.RequestException) as error:
            raise SinkUnavailable(_first_line(error)) from error


def configure_mlflow_client() -> None:
    """Let mlflow's HTTP give up at once, for the shipper knows better when to try again.

    mlflow reads these at each request and nowhere else can they be set (3.17.2,
    `utils/rest_utils.py:http_request`). Its usage statistics would draw from Python's global random
    state in a thread of theirs (`telemetry/client.py:_get_config`), and training would feel it.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "30"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"


def flatten_params(spec: JobSpec) -> dict[str, str]:
    """The spec as MLflow params: dotted fields that are set and can move a number, and short."""
    document = spec.model_dump(mode="json", exclude=_NO_PARAMS)
    return {
        key: str(value)[:_LONGEST_PARAM]
        for key, value in _leaves(document, prefix="")
        if value is not None
    }


def _leaves(value: JsonValue, *, prefix: str) -> Iterator[tuple[str, JsonValue]]:
    if not isinstance(value, dict):
        yield prefix, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, prefix=f"{prefix}.{key}" if prefix else key)


def _ms(record: Metrics | Outcome) -> int:
    return round(record.at.timestamp() * 1000)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
