"""Draws what a detector finds in images: one that is exported, or one as its run left it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from configs.catalog import parse_job
from configs.protocol.names import RunFile
from configs.spec.run import RunSpec, TeacherFiles
from workers.checkpoints.files import load_checkpoint
from workers.errors import ModelMismatch
from workers.evaluation.drawing import COLORS, Panel, draw_side_by_side
from workers.evaluation.inference import load_model
from workers.export.card import CARD, ONNX
from workers.export.original import MmdetDetector
from workers.export.tandem_runtime import Array, ImageDetections, OnnxDetector, read_image
from workers.models.training_config import build_inference_pipeline


class ImageDetector(Protocol):
    """Finds objects in images and knows what they are called."""

    classes: tuple[str, ...]

    def detect(self, image_HW3: Array) -> ImageDetections:
        """What is in an RGB image of bytes."""


@dataclass(frozen=True)
class Prediction:
    """What was found in one image, and where it is drawn."""

    image: Path
    picture: Path
    detections: ImageDetections
    classes: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Class, score and box, the most confident first."""
        for box, score, label in zip(
            self.detections.boxes_N4,
            self.detections.scores_N,
            self.detections.labels_N,
            strict=True,
        ):
            edges = " ".join(f"{edge:.1f}" for edge in box)
            yield f"{self.classes[int(label)]} {score:.3f}  {edges}"


def load_detector(path: Path) -> ImageDetector:
    """The detector in an ONNX file, in an export's folder or in a run's.

    Raises `ModelMismatch` if there is none.
    """
    if path.is_file():
        return _onnx_detector(path)
    if (path / CARD).is_file():
        return _onnx_detector(path / ONNX)
    if (path / RunFile.EXPORT / CARD).is_file():
        return _onnx_detector(path / RunFile.EXPORT / ONNX)
    if (path / RunFile.BEST).is_file():
        return _trained_detector(path)
    raise ModelMismatch(
        f"{path} holds no detector: give an .onnx file, the folder of an export, or that of a run "
        "that has trained."
    )


def predict(
    detector: ImageDetector, images: Iterable[Path], *, out: Path, score: float
) -> Iterator[Prediction]:
    """Draw what is found with at least `score`, image by image, into `out`.

    Raises `UnreadableImage` for a file that is none.
    """
    out.mkdir(parents=True, exist_ok=True)
    taken: set[Path] = set()
    for path in images:
        image = read_image(path)
        found = detector.detect(image).filter_by_score(score)
        colour = COLORS["student"]
        panel = Panel("found", colour, found.boxes_N4, found.labels_N, found.scores_N)
        picture = _free_name(out, path, taken)
        draw_side_by_side(image, [panel], class_names=detector.classes).save(picture)
        yield Prediction(path, picture, found, detector.classes)


def _onnx_detector(path: Path) -> OnnxDetector:
    if not path.is_file():
        raise ModelMismatch(f"{path.parent} has no ONNX file; export it with --format onnx.")
    try:
        return OnnxDetector(path)
    except ValueError as error:
        raise ModelMismatch(str(error)) from error


def _trained_detector(run_dir: Path) -> MmdetDetector:
    """The best student of a run, as mmdet runs it."""
    spec = parse_job(json.loads((run_dir / RunFile.SPEC).read_bytes()))
    if not isinstance(spec, RunSpec):
        raise ModelMismatch(f"{run_dir} is no run that has trained.")
    checkpoint = run_dir / RunFile.BEST
    files = TeacherFiles(
        checkpoint=str(checkpoint),
        detector=spec.student,
        classes=tuple(load_checkpoint(checkpoint)["meta"]["CLASSES"]),
    )
    model = load_model(files, device=torch.device("cpu"))
    pipeline = build_inference_pipeline(spec.student, image_size=spec.data.image_size)
    return MmdetDetector(model.module, pipeline)


def _free_name(out: Path, image: Path, taken: set[Path]) -> Path:
    """Images of one name from different folders do not overwrite each other."""
    picture, count = out / f"{image.stem}.png", 1
    while picture in taken or picture == image:
        count += 1
        picture = out / f"{image.stem}-{count}.png"
    taken.add(picture)
    return picture
