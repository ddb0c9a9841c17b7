"""The evaluate job: metrics, precision-recall curves and speed of a trained model."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from configs.metric_keys import Metric
from configs.protocol.names import ExitCode, RunFile
from configs.spec.base import DEFAULT_MAX_DETECTIONS
from configs.spec.jobs import EvaluationSpec
from configs.spec.references import TeacherFiles
from workers.analysis.matches import write_matches
from workers.attempt.lifecycle import JobContext, run_job
from workers.data.resolve import LocalDataset, resolve_dataset
from workers.errors import InvalidSpec
from workers.evaluation.coco import (
    CocoMetrics,
    build_curves_document,
)
from workers.evaluation.coco import evaluate as run_evaluation
from workers.evaluation.inference import (
    ImageSelection,
    LoadedDetector,
    build_image_loader,
    load_model,
    resolve_model_files,
)
from workers.evaluation.pr_curves import draw_pr_curves
from workers.evaluation.timing import (
    Latency,
    Throughput,
    TimingConditions,
    build_speed_document,
    measure_latency,
)
from workers.machine.environment import get_process_info, write_environment
from workers.process.device import prepare_device
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.log_lines import format_map

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _EvaluationJob:
    """A resolved evaluation spec: model, dataset and device."""

    spec: EvaluationSpec
    files: TeacherFiles
    dataset: LocalDataset
    model: LoadedDetector
    device: torch.device
    max_detections: int


@dataclass(frozen=True)
class _EvaluationResult:
    metrics: CocoMetrics
    images_per_s: float
    latency: Latency | None
    """None if the spec does not ask for it."""

    @property
    def coco(self) -> dict[str, float]:
        """COCO's twelve metrics: average precision, then average recall."""
        return self.metrics.by_metric | self.metrics.recall_by_metric


def evaluate(
    spec: EvaluationSpec,
    *,
    identity: AttemptIdentity,
    run_dir: Path,
    stall_timeout_s: float = DEFAULT_STALL_TIMEOUT_S,
) -> ExitCode:
    """Evaluate a model; errors are reported and returned as exit code."""
    return run_job(
        spec,
        lambda ctx: _evaluate(spec, ctx),
        identity=identity,
        run_dir=run_dir,
        stall_timeout_s=stall_timeout_s,
    )


def _evaluate(spec: EvaluationSpec, ctx: JobContext) -> float:
    job = _prepare(spec)
    _report_start(job, ctx)
    result = _measure(job, ctx)
    _report_metrics(job, result, ctx)
    _write_results(job, result, ctx)
    mean_ap = result.metrics.mean_ap
    log.info("mAP %s, %.1f images/s.", format_map(mean_ap), result.images_per_s)
    return mean_ap


def _prepare(spec: EvaluationSpec) -> _EvaluationJob:
    files = resolve_model_files(spec.model)
    dataset = resolve_dataset(spec.data.dataset, field="data.dataset")
    check_same_classes(files, dataset)
    device = prepare_device(spec.resources)
    limit = spec.data.max_detections or DEFAULT_MAX_DETECTIONS
    model = load_model(files, device=device, max_detections=limit)
    return _EvaluationJob(spec, files, dataset, model, device, limit)


def check_same_classes(files: TeacherFiles, dataset: LocalDataset) -> None:
    """Raise `InvalidSpec` if model and dataset differ in their classes or the order of these."""
    of_model, of_dataset = files.classes, dataset.manifest.classes
    if of_model != of_dataset:
        raise InvalidSpec(
            f"The model has {len(of_model)} classes ({', '.join(of_model[:3])}) and the dataset "
            f"has {len(of_dataset)} ({', '.join(of_dataset[:3])}); both must have the same classes "
            "in the same order."
        )


def _report_start(job: _EvaluationJob, ctx: JobContext) -> None:
    ctx.reporter.report_start(
        get_process_info(job.device),
        resumed_from_epoch=0,
        teacher_sha256=None,
        model_sha256=job.model.sha256,
        dataset=job.dataset.manifest,
    )
    write_environment(ctx.run_dir / RunFile.ENVIRONMENT, device=job.device)
    for file in (RunFile.SPEC, RunFile.ENVIRONMENT):
        ctx.reporter.report_artifact(file)


def _measure(job: _EvaluationJob, ctx: JobContext) -> _EvaluationResult:
    loader = _build_loader(job, batch_size=job.spec.data.batch_size)
    throughput = Throughput()
    steps = len(loader)

    def on_batch() -> None:
        ctx.raise_if_stopped()
        ctx.report_progress(done=len(throughput.seconds), total=steps)

    metrics = run_evaluation(
        job.model.module,
        loader,
        device=job.device,
        max_detections=job.max_detections,
        on_batch=on_batch,
        throughput=throughput,
    )
    write_matches(ctx.run_dir, loader.dataset, student=metrics)
    return _EvaluationResult(metrics, throughput.images_per_s, _measure_latency(job, ctx))


def _measure_latency(job: _EvaluationJob, ctx: JobContext) -> Latency | None:
    timing = job.spec.timing
    if timing is None:
        return None
    ctx.raise_if_stopped()
    return measure_latency(
        job.model.module,
        _build_loader(job, batch_size=1),
        timing,
        device=job.device,
        on_image=ctx.raise_if_stopped,
    )


def _build_loader(job: _EvaluationJob, *, batch_size: int) -> DataLoader[Any]:
    data = job.spec.data
    selection = ImageSelection(
        dataset=job.dataset,
        size=data.image_size,
        split=data.split,
        max_images=data.images,
        num_workers=data.num_workers if batch_size > 1 else 0,
        pin_memory=job.device.type == "cuda",
    )
    return build_image_loader(job.files.detector, selection, batch_size=batch_size)


def _report_metrics(job: _EvaluationJob, result: _EvaluationResult, ctx: JobContext) -> None:
    split = job.spec.data.split
    values = {f"{split}/{name}": value for name, value in result.coco.items()}
    values[Metric.INFERENCE_IMAGES_PER_S] = result.images_per_s
    if result.latency is not None:
        values[Metric.LATENCY_P50_MS] = result.latency.p50_ms
        values[Metric.LATENCY_P90_MS] = result.latency.p90_ms
    ctx.reporter.report_metrics(step=0, values=values)


def _write_results(job: _EvaluationJob, result: _EvaluationResult, ctx: JobContext) -> None:
    metrics = result.metrics
    ctx.write_artifact(RunFile.PER_CLASS_AP, _to_json(metrics.ap_by_class))
    ctx.write_artifact(RunFile.CURVES, _to_json(build_curves_document(metrics)))
    ctx.write_artifact(RunFile.EVALUATION, _to_json(_build_document(job, result)))
    draw_pr_curves(metrics).save(ctx.run_dir / RunFile.CURVES_PICTURE)
    ctx.reporter.report_artifact(RunFile.CURVES_PICTURE)


def _build_document(job: _EvaluationJob, result: _EvaluationResult) -> dict[str, Any]:
    """All results of the evaluation, with the model and dataset that they belong to."""
    data, manifest = job.spec.data, job.dataset.manifest
    conditions = TimingConditions(
        device=str(job.device),
        threads=torch.get_num_threads(),
        batch_size=data.batch_size,
        image_size=data.image_size or (0, 0),
    )
    return {
        "model": {"checkpoint": job.files.checkpoint, "sha256": job.model.sha256},
        "dataset": {"name": manifest.name, "digest": manifest.digest, "split": data.split},
        "images": data.images or getattr(manifest, data.split).num_images,
        "max_detections": job.max_detections,
        "coco": result.coco,
        "by_class": {
            name: {"AP": ap, "AR_100": result.metrics.recall_by_class[name]}
            for name, ap in result.metrics.ap_by_class.items()
        },
        "speed": build_speed_document(
            conditions, images_per_s=result.images_per_s, latency=result.latency
        ),
    }


def _to_json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
