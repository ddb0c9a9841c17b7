"""Runs an exported detector: an ONNX file, an image, boxes. Needs numpy, OpenCV and onnxruntime.

This file knows nothing else of Tandem, and travels with every MLflow model. What the graph does not
do is here: read an image, resize it as in training, and scale boxes back.

    detector = OnnxDetector(Path("student.onnx"))
    found = detector.detect(read_image(Path("photo.jpg")))
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES, IMAGE_SIZE = "tandem.classes", "tandem.image_size"
"""Keys of the file's metadata; their values are JSON."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ImageDetections:
    """What a detector found in one image, the most confident first."""

    boxes_N4: Array
    """Left, top, right, bottom in pixels of the image."""

    scores_N: Array
    labels_N: Array
    """Class indices."""

    def filter_by_score(self, score: float) -> "ImageDetections":
        """What has at least this score."""
        kept = self.scores_N >= score
        return ImageDetections(self.boxes_N4[kept], self.scores_N[kept], self.labels_N[kept])


class ImageDecodeError(ValueError):
    """No image that OpenCV can read."""


class OnnxDetector:
    """A detector in an ONNX file as Tandem writes it."""

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        """`threads`: of a single operator; 0 leaves it to onnxruntime.

        Raises `ValueError` if the file is none of Tandem's.
        """
        import onnxruntime  # noqa: PLC0415  what reads images and tables does without

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own kinds share no other base
            raise ValueError(f"{path} cannot be opened as an ONNX file: {error}") from error
        said = self._session.get_modelmeta().custom_metadata_map
        if CLASSES not in said or IMAGE_SIZE not in said:
            raise ValueError(f"{path} was not written by Tandem: it does not name its classes.")
        self.classes: tuple[str, ...] = tuple(json.loads(said[CLASSES]))
        longest, shortest = json.loads(said[IMAGE_SIZE])
        self.image_size: tuple[int, int] = (int(longest), int(shortest))

    def detect(self, image_HW3: Array) -> ImageDetections:
        """What is in an RGB image of bytes."""
        resized, scale_4 = _resized(image_HW3, self.image_size)
        image_13HW = resized.transpose(2, 0, 1)[None].astype(np.float32)
        boxes, scores, labels = self._session.run(
            ["boxes", "scores", "labels"], {"image": np.ascontiguousarray(image_13HW)}
        )
        return ImageDetections(boxes / scale_4, scores, labels)


def read_image(source: Path | bytes) -> Array:
    """An image file or its content, as RGB bytes (H, W, 3)."""
    content = source.read_bytes() if isinstance(source, Path) else source
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        what = str(source) if isinstance(source, Path) else f"{len(content)} bytes"
        raise ImageDecodeError(f"{what}: no image that OpenCV can read.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _resized(image_HW3: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """As large as fits into `size`, aspect ratio kept, and the scale of a box's four edges."""
    height, width = image_HW3.shape[:2]
    factor = min(max(size) / max(height, width), min(size) / min(height, width))
    new = (int(width * factor + 0.5), int(height * factor + 0.5))
    resized = cv2.resize(image_HW3, new, interpolation=cv2.INTER_LINEAR)
    across, down = new[0] / width, new[1] / height
    return resized, np.array([across, down, across, down], dtype=np.float32)
