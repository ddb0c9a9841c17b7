"""An export, on one page: spec -> model -> files, each compared with the original -> card."""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmdet.apis import init_detector

from configs.protocol.names import ExitCode, Metric, RunFile
from configs.spec.jobs import ExportFormat, ExportSpec, export_objection
from configs.spec.run import TeacherFiles
from workers.attempt.lifecycle import Desk, attempt
from workers.checkpoints.files import sha256_of
from workers.data.resolve import DatasetPlace, place_of
from workers.errors import InvalidSpec
from workers.evaluation.inference import Loaded, files_of, load_model
from workers.export.card import CARD, MLFLOW, MMDET, ONNX, Comparison, ExportCard
from workers.export.comparison import Agreement, Detects, Limits, compare
from workers.export.mlflow_model import MlflowDetector, write_mlflow_model
from workers.export.mmdet_files import CONFIG, WEIGHTS, write_mmdet
from workers.export.onnx_file import write_onnx
from workers.export.original import MmdetDetector
from workers.export.tandem_runtime import OnnxDetector, read_image
from workers.machine.environment import whereabouts
from workers.models.training_config import inference_pipeline
from workers.process.device import prepare_device
from workers.telemetry.heartbeat import STALL_AFTER_S
from workers.telemetry.identity import Identity

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """What is exported, and what it is compared on."""

    spec: ExportSpec
    files: TeacherFiles
    model: Loaded
    dataset: DatasetPlace
    image_size: tuple[int, int]
    folder: Path

    @property
    def pipeline(self) -> list[dict[str, Any]]:
        """What the model's images go through."""
        return inference_pipeline(self.files.detector, image_size=self.image_size)

    @property
    def limits(self) -> Limits:
        """Where the model leaves boxes out."""
        test = self.model.module.test_cfg
        return Limits(test.score_thr, test.max_per_img, self.spec.tolerance)


def export(
    spec: ExportSpec, *, identity: Identity, run_dir: Path, stall_after_s: float = STALL_AFTER_S
) -> ExitCode:
    """Write a model's files; every end is reported, none is raised."""
    return attempt(
        spec,
        lambda desk: _export(spec, desk),
        identity=identity,
        run_dir=run_dir,
        stall_after_s=stall_after_s,
    )


def _export(spec: ExportSpec, desk: Desk) -> None:
    job = _prepare(spec, desk)
    desk.reporter.started(
        whereabouts(prepare_device(spec.resources)),
        resumed_from_epoch=0,
        teacher_sha256=None,
        model_sha256=job.model.sha256,
        dataset=job.dataset.manifest,
    )
    desk.reporter.artifact(RunFile.SPEC)
    agreements: dict[ExportFormat, Agreement] = {}
    for done, format_ in enumerate(_in_order(spec.formats)):
        desk.leave_if_unwanted()
        desk.progress(done=done, total=len(spec.formats))
        desk.reporter.pulse.beat("finishing")  # a whole file is one step
        agreements[format_] = _written_and_compared(format_, job, desk)
        log.info("%s: %s", format_, agreements[format_])
    _write_card(job, agreements, desk)
    _say_differences(agreements, desk)


def _prepare(spec: ExportSpec, desk: Desk) -> _Job:
    files = files_of(spec.model)
    for format_ in spec.formats:
        if (objection := export_objection(files.detector, format_)) is not None:
            raise InvalidSpec(objection)
    if spec.image_size is None:
        raise InvalidSpec("image_size is missing, and the model's run does not say it.")
    model = load_model(files, device=prepare_device(spec.resources))
    folder = desk.run_dir / RunFile.EXPORT
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier attempt left
    return _Job(spec, files, model, place_of(spec.dataset), spec.image_size, folder)


def _in_order(formats: tuple[ExportFormat, ...]) -> list[ExportFormat]:
    """MLflow's model holds the ONNX file, so that comes before."""
    return sorted(formats, key=("checkpoint", "onnx", "mlflow").index)


def _written_and_compared(format_: ExportFormat, job: _Job, desk: Desk) -> Agreement:
    write: Callable[[_Job], Detects] = {
        "checkpoint": _mmdet,
        "onnx": _onnx,
        "mlflow": _mlflow,
    }[format_]
    original = MmdetDetector(job.model.module, job.pipeline)
    agreement = compare(original, write(job), _images(job, desk), limits=job.limits)
    agreement.refuse_beyond(job.spec.tolerance, what=f"The {format_} file")
    return agreement


def _mmdet(job: _Job) -> Detects:
    """The checkpoint as mmdet alone loads it."""
    folder = job.folder / MMDET
    write_mmdet(folder, job.model.module, job.files, dataset=job.dataset, image_size=job.image_size)
    loaded = init_detector(str(folder / CONFIG), str(folder / WEIGHTS), device="cpu")
    return MmdetDetector(loaded, loaded.cfg.data.test.pipeline)


def _onnx(job: _Job) -> Detects:
    path = job.folder / ONNX
    write_onnx(path, job.model.module, job.files.detector, image_size=job.image_size)
    return OnnxDetector(path, threads=job.spec.resources.num_cpus)


def _mlflow(job: _Job) -> Detects:
    if "onnx" not in job.spec.formats:
        _onnx(job)
    write_mlflow_model(job.folder / MLFLOW, job.folder / ONNX)
    return MlflowDetector(job.folder / MLFLOW)


def _images(job: _Job, desk: Desk) -> Iterator[Any]:
    split = job.dataset.manifest.val
    folder = job.dataset.root / split.images
    for path in sorted(folder.iterdir())[: job.spec.compared_images]:
        desk.leave_if_unwanted()
        yield read_image(path)


def _write_card(job: _Job, agreements: dict[ExportFormat, Agreement], desk: Desk) -> None:
    written = sorted(path for path in job.folder.rglob("*") if path.is_file())
    names = {str(path.relative_to(job.folder)): path for path in written}
    card = ExportCard(
        detector=job.files.detector,
        classes=job.files.classes,
        image_size=job.image_size,
        source_sha256=job.model.sha256,
        dataset_digest=job.dataset.manifest.digest,
        comparisons={
            format_: Comparison(
                **{name: value for name, value in asdict(found).items() if name != "unmatched"}
            )
            for format_, found in agreements.items()
        },
        sha256_by_file={name: sha256_of(path) for name, path in names.items() if name != CARD},
    )
    desk.write(f"{RunFile.EXPORT}/{CARD}", card.model_dump_json(indent=2) + "\n")
    for name in names:
        if name != CARD:
            desk.reporter.artifact(f"{RunFile.EXPORT}/{name}")


def _say_differences(agreements: dict[ExportFormat, Agreement], desk: Desk) -> None:
    found = agreements.values()
    desk.reporter.metrics(
        step=0,
        values={
            Metric.EXPORT_EDGE_DIFFERENCE: max(a.largest_edge_difference_px for a in found),
            Metric.EXPORT_SCORE_DIFFERENCE: max(a.largest_score_difference for a in found),
        },
    )
