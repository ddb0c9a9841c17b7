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
from workers.attempt.lifecycle import Desk, attempt
from workers.data.resolve import DatasetPlace, place_of
from workers.errors import InvalidSpec
from workers.evaluation.coco import Measures, curves_document, measure
from workers.evaluation.coco import evaluate as detect
from workers.evaluation.inference import Images, Loaded, files_of, image_loader, load_model
from workers.evaluation.pr_curves import curves_picture
from workers.evaluation.timing import Latency, Setting, Stopwatch, latency_of, speed_document
from workers.machine.environment import whereabouts, write_environment
from workers.process.device import prepare_device
from workers.telemetry.heartbeat import STALL_AFTER_S
from workers.telemetry.identity import Identity

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """What is measured, and on what."""

    spec: EvaluationSpec
    files: TeacherFiles
    dataset: DatasetPlace
    model: Loaded
    device: torch.device


@dataclass(frozen=True)
class _Found:
    """What was measured."""

    measures: Measures
    images_per_s: float
    latency: Latency | None


def evaluate(
    spec: EvaluationSpec, *, identity: Identity, run_dir: Path, stall_after_s: float = STALL_AFTER_S
) -> ExitCode:
    """Measure a model; every end is reported, none is raised."""
    return attempt(
        spec,
        lambda desk: _evaluate(spec, desk),
        identity=identity,
        run_dir=run_dir,
        stall_after_s=stall_after_s,
    )


def _evaluate(spec: EvaluationSpec, desk: Desk) -> float:
    job = _prepare(spec)
    _say_started(job, desk)
    found = _measured(job, desk)
    _say_numbers(job, found, desk)
    _write_results(job, found, desk)
    mean_ap = found.measures.by_metric["bbox_mAP"]
    log.info("mAP %.4f, %.1f images/s.", mean_ap, found.images_per_s)
    return mean_ap


def _prepare(spec: EvaluationSpec) -> _Job:
    files, dataset = files_of(spec.model), place_of(spec.data.dataset)
    refuse_other_classes(files, dataset)
    device = prepare_device(spec.resources)
    return _Job(spec, files, dataset, load_model(files, device=device), device)


def refuse_other_classes(files: TeacherFiles, dataset: DatasetPlace) -> None:
    """`InvalidSpec` if a model's answers cannot be compared with a dataset's labels."""
    ours, theirs = files.classes, dataset.manifest.classes
    if ours != theirs:
        raise InvalidSpec(
            f"The model knows {len(ours)} classes ({', '.join(ours[:3])}) and the dataset has "
            f"{len(theirs)} ({', '.join(theirs[:3])}); both must be the same, in the same order."
        )


def _say_started(job: _Job, desk: Desk) -> None:
    desk.reporter.started(
        whereabouts(job.device),
        resumed_from_epoch=0,
        teacher_sha256=None,
        model_sha256=job.model.sha256,
        dataset=job.dataset.manifest,
    )
    write_environment(desk.run_dir / RunFile.ENVIRONMENT, device=job.device)
    for file in (RunFile.SPEC, RunFile.ENVIRONMENT):
        desk.reporter.artifact(file)


def _measured(job: _Job, desk: Desk) -> _Found:
    loader = _loader(job, batch_size=job.spec.data.batch_size)
    watch = Stopwatch(job.model.module)
    steps = len(loader)

    def on_batch() -> None:
        desk.leave_if_unwanted()
        desk.progress(done=len(watch.seconds), total=steps)

    scores = detect(watch, loader, device=job.device, on_batch=on_batch)
    measures = measure(scores.detections, loader.dataset)
    write_matches(desk.run_dir, loader.dataset, student=scores)
    return _Found(measures, watch.images_per_s, _latency(job, desk))


def _latency(job: _Job, desk: Desk) -> Latency | None:
    timing = job.spec.timing
    if timing is None:
        return None
    desk.leave_if_unwanted()
    return latency_of(
        job.model.module,
        _loader(job, batch_size=1),
        timing,
        device=job.device,
        on_image=desk.leave_if_unwanted,
    )


def _loader(job: _Job, *, batch_size: int) -> DataLoader[Any]:
    data = job.spec.data
    images = Images(
        dataset=job.dataset,
        size=data.image_size,
        split=data.split,
        first=data.images,
        loader_workers=data.loader_workers if batch_size > 1 else 0,
        pin_memory=job.device.type == "cuda",
    )
    return image_loader(job.files.detector, images, batch_size=batch_size)


def _say_numbers(job: _Job, found: _Found, desk: Desk) -> None:
    side = job.spec.data.split
    values = {f"{side}/{name}": value for name, value in found.measures.by_metric.items()}
    values[Metric.INFERENCE_IMAGES_PER_S] = found.images_per_s
    if found.latency is not None:
        values[Metric.LATENCY_P50_MS] = found.latency.p50_ms
        values[Metric.LATENCY_P90_MS] = found.latency.p90_ms
    desk.reporter.metrics(step=0, values=values)


def _write_results(job: _Job, found: _Found, desk: Desk) -> None:
    measures = found.measures
    desk.write(RunFile.PER_CLASS_AP, _json(measures.ap_by_class))
    desk.write(RunFile.CURVES, _json(curves_document(measures)))
    desk.write(RunFile.EVALUATION, _json(_document(job, found)))
    curves_picture(measures).save(desk.run_dir / RunFile.CURVES_PICTURE)
    desk.reporter.artifact(RunFile.CURVES_PICTURE)


def _document(job: _Job, found: _Found) -> dict[str, Any]:
    """Everything that was measured, and of what, in one file."""
    data, manifest = job.spec.data, job.dataset.manifest
    setting = Setting(
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
        "speed": speed_document(setting, images_per_s=found.images_per_s, latency=found.latency),
    }


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
