"""The export job: writes a model in other formats, and compares each file with the original."""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmdet.apis import init_detector

from configs.metric_keys import Metric
from configs.protocol.names import ExitCode, RunFile
from configs.spec.base import DEFAULT_MAX_DETECTIONS
from configs.spec.jobs import ExportFormat, ExportSpec, explain_unsupported_export
from configs.spec.references import TeacherFiles
from workers.attempt.lifecycle import JobContext, run_job
from workers.checkpoints.files import compute_sha256
from workers.data.resolve import LocalDataset, resolve_dataset
from workers.errors import InvalidSpec
from workers.evaluation.inference import LoadedDetector, load_model, resolve_model_files
from workers.export.card import CARD, MLFLOW, MMDET, ONNX, ExportCard, ExportComparison
from workers.export.comparison import Agreement, DetectionLimits, SingleImageDetector, compare
from workers.export.mlflow_model import MlflowDetector, write_mlflow_model
from workers.export.mmdet_files import CONFIG, WEIGHTS, write_mmdet
from workers.export.onnx_file import write_onnx
from workers.export.original import MmdetDetector
from workers.export.tandem_runtime import OnnxDetector, read_image
from workers.machine.environment import get_process_info
from workers.models.training_config import build_inference_pipeline
from workers.process.device import prepare_device
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S
from workers.telemetry.identity import AttemptIdentity

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _ExportJob:
    """A resolved export spec: the model, the images it is compared on, and the output folder."""

    spec: ExportSpec
    files: TeacherFiles
    model: LoadedDetector
    dataset: LocalDataset
    image_size: tuple[int, int]
    folder: Path

    @property
    def pipeline(self) -> list[dict[str, Any]]:
        """The preprocessing of the model's images."""
        return build_inference_pipeline(self.files.detector, image_size=self.image_size)

    @property
    def limits(self) -> DetectionLimits:
        """The limits at which the model drops boxes, and the tolerance of the comparison."""
        test = self.model.module.test_cfg
        return DetectionLimits(test.score_thr, test.max_per_img, self.spec.tolerance)


def export(
    spec: ExportSpec,
    *,
    identity: AttemptIdentity,
    run_dir: Path,
    stall_timeout_s: float = DEFAULT_STALL_TIMEOUT_S,
) -> ExitCode:
    """Export a model; errors are reported and returned as exit code."""
    return run_job(
        spec,
        lambda ctx: _export(spec, ctx),
        identity=identity,
        run_dir=run_dir,
        stall_timeout_s=stall_timeout_s,
    )


def _export(spec: ExportSpec, ctx: JobContext) -> None:
    job = _prepare(spec, ctx)
    ctx.reporter.report_start(
        get_process_info(prepare_device(spec.resources)),
        resumed_from_epoch=0,
        teacher_sha256=None,
        model_sha256=job.model.sha256,
        dataset=job.dataset.manifest,
    )
    ctx.reporter.report_artifact(RunFile.SPEC)
    agreements: dict[ExportFormat, Agreement] = {}
    for done, format_ in enumerate(_sort_formats(spec.formats)):
        ctx.raise_if_stopped()
        ctx.report_progress(done=done, total=len(spec.formats))
        ctx.reporter.heartbeat.beat("finishing")  # writing a file reports no progress
        agreements[format_] = _write_and_compare(format_, job, ctx)
        log.info("%s: %s", format_, agreements[format_])
    _write_card(job, agreements, ctx)
    _report_differences(agreements, ctx)


def _prepare(spec: ExportSpec, ctx: JobContext) -> _ExportJob:
    files = resolve_model_files(spec.model)
    for format_ in spec.formats:
        if (objection := explain_unsupported_export(files.detector, format_)) is not None:
            raise InvalidSpec(objection)
    if spec.image_size is None:
        raise InvalidSpec(
            "image_size is missing, and the model's run has none either: set image_size."
        )
    model = load_model(
        files,
        device=prepare_device(spec.resources),
        max_detections=spec.max_detections or DEFAULT_MAX_DETECTIONS,
    )
    folder = ctx.run_dir / RunFile.EXPORT
    shutil.rmtree(folder, ignore_errors=True)  # files of an earlier attempt
    return _ExportJob(spec, files, model, resolve_dataset(spec.dataset), spec.image_size, folder)


def _sort_formats(formats: tuple[ExportFormat, ...]) -> list[ExportFormat]:
    """ONNX comes before MLflow, whose model contains the ONNX file."""
    return sorted(formats, key=("checkpoint", "onnx", "mlflow").index)


def _write_and_compare(format_: ExportFormat, job: _ExportJob, ctx: JobContext) -> Agreement:
    write: Callable[[_ExportJob], SingleImageDetector] = {
        "checkpoint": _write_mmdet,
        "onnx": _write_onnx,
        "mlflow": _write_mlflow,
    }[format_]
    original = MmdetDetector(job.model.module, job.pipeline)
    agreement = compare(original, write(job), _iter_images(job, ctx), limits=job.limits)
    agreement.check_within(job.spec.tolerance, what=f"The {format_} file")
    return agreement


def _write_mmdet(job: _ExportJob) -> SingleImageDetector:
    """Write config and checkpoint, and load them with mmdet alone."""
    folder = job.folder / MMDET
    write_mmdet(folder, job.model.module, job.files, dataset=job.dataset, image_size=job.image_size)
    loaded = init_detector(str(folder / CONFIG), str(folder / WEIGHTS), device="cpu")
    return MmdetDetector(loaded, loaded.cfg.data.test.pipeline)


def _write_onnx(job: _ExportJob) -> SingleImageDetector:
    path = job.folder / ONNX
    write_onnx(path, job.model.module, job.files.detector, image_size=job.image_size)
    return OnnxDetector(path, threads=job.spec.resources.num_cpus)


def _write_mlflow(job: _ExportJob) -> SingleImageDetector:
    if "onnx" not in job.spec.formats:
        _write_onnx(job)
    write_mlflow_model(job.folder / MLFLOW, job.folder / ONNX)
    return MlflowDetector(job.folder / MLFLOW)


def _iter_images(job: _ExportJob, ctx: JobContext) -> Iterator[Any]:
    split = job.dataset.manifest.val
    folder = job.dataset.root / split.images
    for path in sorted(folder.iterdir())[: job.spec.compared_images]:
        ctx.raise_if_stopped()
        yield read_image(path)


def _write_card(
    job: _ExportJob, agreements: dict[ExportFormat, Agreement], ctx: JobContext
) -> None:
    written = sorted(path for path in job.folder.rglob("*") if path.is_file())
    names = {str(path.relative_to(job.folder)): path for path in written}
    card = ExportCard(
        detector=job.files.detector,
        classes=job.files.classes,
        image_size=job.image_size,
        source_sha256=job.model.sha256,
        dataset_digest=job.dataset.manifest.digest,
        comparisons={
            format_: ExportComparison(
                **{name: value for name, value in asdict(agreement).items() if name != "unmatched"}
            )
            for format_, agreement in agreements.items()
        },
        sha256_by_file={name: compute_sha256(path) for name, path in names.items() if name != CARD},
    )
    ctx.write_artifact(f"{RunFile.EXPORT}/{CARD}", card.model_dump_json(indent=2) + "\n")
    for name in names:
        if name != CARD:
            ctx.reporter.report_artifact(f"{RunFile.EXPORT}/{name}")


def _report_differences(agreements: dict[ExportFormat, Agreement], ctx: JobContext) -> None:
    ctx.reporter.report_metrics(
        step=0,
        values={
            Metric.EXPORT_EDGE_DIFFERENCE: max(
                a.largest_edge_difference_px for a in agreements.values()
            ),
            Metric.EXPORT_SCORE_DIFFERENCE: max(
                a.largest_score_difference for a in agreements.values()
            ),
        },
    )
