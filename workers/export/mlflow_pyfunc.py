"""The model that MLflow loads: images in, a table of detections out. Nothing is unpickled.

MLflow runs this file as it is ("models from code"), beside a copy of `tandem_runtime.py`.
"""

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext  # type: ignore[attr-defined]
from tandem_runtime import Array, ImageDecodeError, ImageDetections, OnnxDetector, read_image

COLUMNS = ("image", "left", "top", "right", "bottom", "score", "label", "name")
_DEFAULT_SCORE = 0.05


class ServedDetector(PythonModel):
    """Takes images as files (JPEG, PNG) in base64.

    Answers one row per detection: the image's number, box in pixels, score, class.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Open the ONNX file."""
        self._detector = OnnxDetector(Path(context.artifacts["onnx"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """`params`: `score`, below which detections are left out."""
        score = float((params or {}).get("score", _DEFAULT_SCORE))
        rows = [
            row
            for number, image in enumerate(model_input["image"])
            for row in self._rows(
                number, self._detector.detect(_decoded(image)).filter_by_score(score)
            )
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _rows(self, number: int, found: ImageDetections) -> Iterable[tuple[Any, ...]]:
        for box, score, label in zip(found.boxes_N4, found.scores_N, found.labels_N, strict=True):
            edges = (float(edge) for edge in box)
            yield (number, *edges, float(score), int(label), self._detector.classes[int(label)])


def _decoded(image: str) -> Array:
    try:
        return read_image(base64.b64decode(image, validate=True))
    except (binascii.Error, ImageDecodeError) as error:
        raise MlflowException.invalid_parameter_value(
            f"`image` is to be a JPEG or PNG file in base64: {error}"
        ) from error


mlflow.models.set_model(ServedDetector())
