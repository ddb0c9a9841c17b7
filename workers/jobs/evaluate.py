"""An evaluation, on one page: spec -> model and images -> numbers, curves, times."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from configs.protocol.names import ExitCode, Metric, RunFile
from configs.spec.jobs import EvaluationSpec
from configs.spec.run import TeacherFiles
from workers.analysis.matches import write_matches
from workers.attempt.lifecycle import JobContext, run_job
from workers.data.resolve import LocalDataset, resolve_dataset
from workers.errors import InvalidSpec
from workers.evaluation.coco import (
    DetailedCocoMetrics,
    build_curves_document,
    compute_detailed_metrics,
)
from workers.evaluation.coco import evaluate as detect
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
    TimedDetector,
    TimingConditions,
    build_speed_document,
    measure_latency,
)
from workers.machine.environment import get_process_info, write_environment
from workers.process.device import prepare_device
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S
from workers.telemetry.identity import AttemptIdentity

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """What is measured, and on what."""

    spec: EvaluationSpec
    files: TeacherFiles
    dataset: LocalDataset
    model: LoadedDetector
    device: torch.device


@dataclass(frozen=True)
class _Found:
    """What was measured."""

    measures: DetailedCocoMetrics
    images_per_s: float
    latency: Latency | None


def evaluate(
    spec: EvaluationSpec,
    *,
    identity: AttemptIdentity,
    run_dir: Path,
    stall_timeout_s: float = DEFAULT_STALL_TIMEOUT_S,
) -> ExitCode:
    """Measure a model; every end is reported, none is raised."""
    return run_job(
        spec,
        lambda ctx: _evaluate(spec, ctx),
        identity=identity,
        run_dir=run_dir,
        stall_timeout_s=stall_timeout_s,
    )


def _evaluate(spec: EvaluationSpec, ctx: JobContext) -> float:
    job = _prepare(spec)
    _say_started(job, ctx)
    found = _measured(job, ctx)
    _say_numbers(job, found, ctx)
    _write_results(job, found, ctx)
    mean_ap = found.measures.by_metric["bbox_mAP"]
    log.info("mAP %.4f, %.1f images/s.", mean_ap, found.images_per_s)
    return mean_ap


def _prepare(spec: EvaluationSpec) -> _Job:
    files, dataset = resolve_model_files(spec.model), resolve_dataset(spec.data.dataset)
    check_same_classes(files, dataset)
    device = prepare_device(spec.resources)
    return _Job(spec, files, dataset, load_model(files, device=device), device)


def check_same_classes(files: TeacherFiles, dataset: LocalDataset) -> None:
    """`InvalidSpec` if a model's answers cannot be compared with a dataset's labels."""
    ours, theirs = files.classes, dataset.manifest.classes
    if ours != theirs:
        raise InvalidSpec(
            f"The model knows {len(ours)} classes ({', '.join(ours[:3])}) and the dataset has "
            f"{len(theirs)} ({', '.join(theirs[:3])}); both must be the same, in the same order."
        )


def _say_started(job: _Job, ctx: JobContext) -> None:
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


def _measured(job: _Job, ctx: JobContext) -> _Found:
    loader = _loader(job, batch_size=job.spec.data.batch_size)
    watch = TimedDetector(job.model.module)
    steps = len(loader)

    def on_batch() -> None:
        ctx.raise_if_stopped()
        ctx.report_progress(done=len(watch.seconds), total=steps)

    scores = detect(watch, loader, device=job.device, on_batch=on_batch)
    measures = compute_detailed_metrics(scores.detections, loader.dataset)
    write_matches(ctx.run_dir, loader.dataset, student=scores)
    return _Found(measures, watch.images_per_s, _latency(job, ctx))


def _latency(job: _Job, ctx: JobContext) -> Latency | None:
    timing = job.spec.timing
    if timing is None:
        return None
    ctx.raise_if_stopped()
    return measure_latency(
        job.model.module,
        _loader(job, batch_size=1),
        timing,
        device=job.device,
        on_image=ctx.raise_if_stopped,
    )


def _loader(job: _Job, *, batch_size: int) -> DataLoader[Any]:
    data = job.spec.data
    images = ImageSelection(
        dataset=job.dataset,
        size=data.image_size,
        split=data.split,
        max_images=data.images,
        num_workers=data.num_workers if batch_size > 1 else 0,
        pin_memory=job.device.type == "cuda",
    )
    return build_image_loader(job.files.detector, images, batch_size=batch_size)


def _say_numbers(job: _Job, found: _Found, ctx: JobContext) -> None:
    side = job.spec.data.split
    values = {f"{side}/{name}": value for name, value in found.measures.by_metric.items()}
    values[Metric.INFERENCE_IMAGES_PER_S] = found.images_per_s
    if found.latency is not None:
        values[Metric.LATENCY_P50_MS] = found.latency.p50_ms
        values[Metric.LATENCY_P90_MS] = found.latency.p90_ms
    ctx.reporter.report_metrics(step=0, values=values)


def _write_results(job: _Job, found: _Found, ctx: JobContext) -> None:
    measures = found.measures
    ctx.write_artifact(RunFile.PER_CLASS_AP, _json(measures.ap_by_class))
    ctx.write_artifact(RunFile.CURVES, _json(build_curves_document(measures)))
    ctx.write_artifact(RunFile.EVALUATION, _json(_document(job, found)))
    draw_pr_curves(measures).save(ctx.run_dir / RunFile.CURVES_PICTURE)
    ctx.reporter.report_artifact(RunFile.CURVES_PICTURE)


def _document(job: _Job, found: _Found) -> dict[str, Any]:
    """Everything that was measured, and of what, in one file."""
    data, manifest = job.spec.data, job.dataset.manifest
    setting = TimingConditions(
        device=str(job.device),
        threads=torch.get_num_threads(),
        batch_size=data.batch_size,
        image_size=data.image_size or (0, 0),
    )
    return {
        "model": {"checkpoint": job.files.checkpoint, "sha256": job.model.sha256},
        "dataset": {"name": manifest.name, "digest": manifest.digest, "split": data.split},
        "images": data.images or getattr(manifest, data.split).num_images,
        "coco": found.measures.by_metric,
        "by_class": {
            name: {"AP": ap, "AR_100": found.measures.ar_by_class[name]}
            for name, ap in found.measures.ap_by_class.items()
        },
        "speed": build_speed_document(
            setting, images_per_s=found.images_per_s, latency=found.latency
        ),
    }


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
