"""Runs an exported detector with numpy, OpenCV and onnxruntime.

This file imports nothing else of Tandem, and a copy of it is in every MLflow model. It does what is
not in the graph: reads an image, resizes it as in training, and scales boxes back.

    detector = OnnxDetector(Path("student.onnx"))
    detections = detector.detect(read_image(Path("photo.jpg")))
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES, IMAGE_SIZE = "tandem.classes", "tandem.image_size"
"""Keys of the file's metadata; their values are JSON."""


@dataclass(frozen=True)
class ImageDetections:
    """Detections in one image, by descending score."""

    boxes_N4: NDArray[Any]
    """Left, top, right, bottom in pixels of the image."""

    scores_N: NDArray[Any]
    labels_N: NDArray[Any]
    """Class indices, into the detector's `classes`."""

    def filter_by_score(self, score: float) -> "ImageDetections":
        """Keep the detections with at least this score."""
        is_confident_N = self.scores_N >= score
        return ImageDetections(
            self.boxes_N4[is_confident_N],
            self.scores_N[is_confident_N],
            self.labels_N[is_confident_N],
        )


class ImageFormatError(ValueError):
    """The file is not an image that OpenCV can decode."""


class OnnxDetector:
    """A detector in an ONNX file written by Tandem."""

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        """`threads` is the number of threads per operator; 0 for onnxruntime's default.

        Raises `ValueError` if the file was not written by Tandem.
        """
        import onnxruntime  # noqa: PLC0415  not needed to read images

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no other common base
            raise ValueError(f"{path} cannot be opened as an ONNX file: {error}") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if CLASSES not in metadata or IMAGE_SIZE not in metadata:
            raise ValueError(f"{path} was not written by Tandem: its metadata has no classes.")
        self.classes: tuple[str, ...] = tuple(json.loads(metadata[CLASSES]))
        longest, shortest = json.loads(metadata[IMAGE_SIZE])
        self.image_size: tuple[int, int] = (int(longest), int(shortest))

    def detect(self, image_HW3: NDArray[Any]) -> ImageDetections:
        """Detect objects in an RGB image, uint8, (H, W, 3)."""
        resized, scale_4 = _resize(image_HW3, self.image_size)
        image_13HW = resized.transpose(2, 0, 1)[None].astype(np.float32)
        boxes, scores, labels = self._session.run(
            ["boxes", "scores", "labels"], {"image": np.ascontiguousarray(image_13HW)}
        )
        return ImageDetections(boxes / scale_4, scores, labels)


def read_image(source: Path | bytes) -> NDArray[Any]:
    """Decode an image file or its content to RGB, uint8, (H, W, 3)."""
    content = source.read_bytes() if isinstance(source, Path) else source
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        source_name = str(source) if isinstance(source, Path) else f"{len(content)} bytes"
        raise ImageFormatError(f"{source_name}: not an image that OpenCV can decode.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _resize(image_HW3: NDArray[Any], size: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Resize to fit into `size` with the same aspect ratio; also returns the scale of box edges."""
    height, width = image_HW3.shape[:2]
    scale = min(max(size) / max(height, width), min(size) / min(height, width))
    new = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
    resized = cv2.resize(image_HW3, new, interpolation=cv2.INTER_LINEAR)
    x_scale, y_scale = new[0] / width, new[1] / height
    return resized, np.array([x_scale, y_scale, x_scale, y_scale], dtype=np.float32)
