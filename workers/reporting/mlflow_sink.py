"""Brings records to MLflow: one MLflow run for the life of a run. The only file that knows mlflow.

A record carries its own time, and MLflow keeps one point per (key, value, time, step), so a
delivery that is repeated changes nothing.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from pydantic import JsonValue

from configs.spec import (
    MLFLOW_EXPERIMENT,
    Artifact,
    Metrics,
    Outcome,
    Record,
    RunSpec,
    Started,
    Tag,
)
from workers.reporting.shipper import SinkUnavailable

_METRICS_A_BATCH = 1000
_LONGEST_PARAM = 6000
_DATASET_DIGEST_LENGTH = 36
_FINAL_STATUS = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """What MLflow shall know of a run from the beginning."""

    run_id: str
    name: str
    preset: str | None
    spec: RunSpec
    run_dir: Path


class MlflowSink:
    """The MLflow run of one run."""

    name = "MLflow"

    def __init__(
        self,
        url: str,
        tracked: TrackedRun,
        *,
        closes_run: bool,
        on_found: Callable[[str], None] = lambda _: None,
    ) -> None:
        be_brief()
        self._client = MlflowClient(tracking_uri=url)
        self._tracked = tracked
        self._closes_run = closes_run
        self._on_found = on_found
        self.mlflow_run_id: str | None = None

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        """Log records; `SinkUnavailable` if MLflow does not answer."""
        try:
            run_id = self.mlflow_run_id or self._find_or_create()
            if self.mlflow_run_id is None:
                self.mlflow_run_id = run_id
                self._on_found(run_id)
            self._log_metrics(run_id, [record for record in records if isinstance(record, Metrics)])
            for record in records:
                self._log_other(run_id, record)
        except MlflowException as error:
            raise SinkUnavailable(str(error).splitlines()[0][:300]) from error
        return first + len(records)

    def _find_or_create(self) -> str:
        experiment = self._client.get_experiment_by_name(MLFLOW_EXPERIMENT)
        experiment_id = (
            experiment.experiment_id
            if experiment is not None
            else self._client.create_experiment(MLFLOW_EXPERIMENT)
        )
        found = self._runs_of(experiment_id)
        if not found:
            self._client.create_run(experiment_id, tags=self._tags(), run_name=self._tracked.name)
            # Two attempts may create at once; both then agree on the earliest.
            found = self._runs_of(experiment_id)
        run_id: str = min(found, key=lambda run: run.info.start_time).info.run_id
        params = [Param(key, value) for key, value in flat_params(self._tracked.spec).items()]
        self._client.log_batch(run_id, params=params)
        self._client.update_run(run_id, status="RUNNING")
        return run_id

    def _runs_of(self, experiment_id: str) -> list[Run]:
        tag = f"tags.`{Tag.RUN_ID}` = '{self._tracked.run_id}'"
        return list(self._client.search_runs([experiment_id], filter_string=tag))

    def _tags(self) -> dict[str, str]:
        tags = {str(Tag.RUN_ID): self._tracked.run_id, **self._tracked.spec.tags}
        if self._tracked.preset is not None:
            tags[str(Tag.PRESET)] = self._tracked.preset
        return tags

    def _log_metrics(self, run_id: str, records: Sequence[Metrics]) -> None:
        points = [
            Metric(key, value, round(record.at.timestamp() * 1000), record.step)
            for record in records
            for key, value in record.values.items()
        ]
        for begin in range(0, len(points), _METRICS_A_BATCH):
            self._client.log_batch(run_id, metrics=points[begin : begin + _METRICS_A_BATCH])

    def _log_other(self, run_id: str, record: Record) -> None:
        if isinstance(record, Started):
            self._log_start(run_id, record)
        elif isinstance(record, Artifact):
            self._log_artifact(run_id, record)
        elif isinstance(record, Outcome) and self._closes_run:
            self._client.set_terminated(run_id, _FINAL_STATUS[record.result])

    def _log_start(self, run_id: str, record: Started) -> None:
        tags = {Tag.DATASET_DIGEST: record.dataset_digest, Tag.HOST: record.host}
        if record.teacher_sha256 is not None:
            tags[Tag.TEACHER_SHA256] = record.teacher_sha256
        self._client.log_batch(
            run_id, tags=[RunTag(str(key), value) for key, value in tags.items()]
        )
        dataset = MetaDataset(  # type: ignore[abstract]
            CodeDatasetSource(tags={}),
            name=record.dataset_name,
            digest=record.dataset_digest[:_DATASET_DIGEST_LENGTH],
        )
        context = InputTag("mlflow.data.context", "training")
        self._client.log_inputs(run_id, [DatasetInput(dataset._to_mlflow_entity(), [context])])

    def _log_artifact(self, run_id: str, record: Artifact) -> None:
        path = self._tracked.run_dir / record.path
        if not path.is_file():
            log.warning("%s is gone and cannot be logged to MLflow.", path)
            return
        folder = str(Path(record.path).parent)
        self._client.log_artifact(run_id, str(path), None if folder == "." else folder)


def be_brief() -> None:
    """Let mlflow's HTTP give up soon: the shipper knows better when to try again."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


def flat_params(spec: RunSpec) -> dict[str, str]:
    """The spec as MLflow params: dotted fields, few and short; tags are tags and no params."""
    document = spec.model_dump(mode="json", exclude={"tags"})
    return {key: str(value)[:_LONGEST_PARAM] for key, value in _leaves(document, prefix="")}


def _leaves(value: JsonValue, *, prefix: str) -> Iterator[tuple[str, JsonValue]]:
    if not isinstance(value, dict):
        yield prefix, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, prefix=f"{prefix}.{key}" if prefix else key)
