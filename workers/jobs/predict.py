"""Runs a detector on images and draws its detections."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from configs.protocol.names import RunFile
from configs.spec.references import TeacherFiles
from configs.spec.run import RunSpec
from workers.checkpoints.files import load_checkpoint
from workers.errors import ModelMismatch
from workers.evaluation.drawing import COLORS, Panel, choose_picture_name, draw_side_by_side
from workers.evaluation.inference import load_model
from workers.export.card import CARD, ONNX
from workers.export.comparison import SingleImageDetector
from workers.export.original import MmdetDetector
from workers.export.tandem_runtime import ImageDetections, OnnxDetector, read_image
from workers.models.training_config import build_inference_pipeline
from workers.telemetry.run_folder import read_run_spec


class ClassDetector(SingleImageDetector, Protocol):
    """A detector that knows the names of its classes."""

    classes: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """The detections of one image, and the picture that shows them."""

    image: Path
    picture: Path
    detections: ImageDetections
    classes: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Yield class, score and box of each detection, the most confident first."""
        for box, score, label in zip(
            self.detections.boxes_N4,
            self.detections.scores_N,
            self.detections.labels_N,
            strict=True,
        ):
            edges = " ".join(f"{edge:.1f}" for edge in box)
            yield f"{self.classes[int(label)]} {score:.3f}  {edges}"


def load_detector(path: Path) -> ClassDetector:
    """Load the detector of an ONNX file, of an export's folder or of a run's folder.

    An exported detector is preferred to the run's checkpoint. Raises `ModelMismatch` if there is
    none, and `IncompatibleRunFolder` if another version of Tandem trained it.
    """
    if path.is_file():
        return _load_onnx_detector(path)
    if (path / CARD).is_file():
        return _load_onnx_detector(path / ONNX)
    if (path / RunFile.EXPORT / CARD).is_file():
        return _load_onnx_detector(path / RunFile.EXPORT / ONNX)
    if (path / RunFile.BEST).is_file():
        return _load_trained_detector(path)
    raise ModelMismatch(
        f"{path} contains no detector: give an .onnx file, the folder of an export, or the folder "
        "of a run that has trained."
    )


def predict(
    detector: ClassDetector, images: Iterable[Path], *, out: Path, score: float
) -> Iterator[Prediction]:
    """Detect objects in each image and draw those with at least `score` into the folder `out`.

    Raises `ImageDecodeError` for a file that is not an image.
    """
    out.mkdir(parents=True, exist_ok=True)
    names: set[str] = set()
    for path in images:
        image = read_image(path)
        detections = detector.detect(image).filter_by_score(score)
        panel = Panel(
            "found",
            COLORS["student"],
            detections.boxes_N4,
            detections.labels_N,
            detections.scores_N,
        )
        is_own_folder = path.parent.resolve() == out.resolve()
        name = choose_picture_name(path, {*names, path.name} if is_own_folder else names)
        names.add(name)
        picture = out / name
        draw_side_by_side(image, [panel], class_names=detector.classes).save(picture)
        yield Prediction(path, picture, detections, detector.classes)


def _load_onnx_detector(path: Path) -> OnnxDetector:
    if not path.is_file():
        raise ModelMismatch(f"{path.parent} has no ONNX file; export it with --format onnx.")
    try:
        return OnnxDetector(path)
    except ValueError as error:
        raise ModelMismatch(str(error)) from error


def _load_trained_detector(run_dir: Path) -> MmdetDetector:
    """Load the best student of a run with mmdet."""
    spec = read_run_spec(run_dir)
    if not isinstance(spec, RunSpec):
        raise ModelMismatch(f"{run_dir} is not the folder of a training run.")
    checkpoint = run_dir / RunFile.BEST
    files = TeacherFiles(
        checkpoint=str(checkpoint),
        detector=spec.student.architecture,
        classes=tuple(load_checkpoint(checkpoint)["meta"]["CLASSES"]),
    )
    model = load_model(
        files, device=torch.device("cpu"), max_detections=spec.evaluation.max_detections
    )
    pipeline = build_inference_pipeline(spec.student, image_size=spec.data.image_size)
    return MmdetDetector(model.module, pipeline)
