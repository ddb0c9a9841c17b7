"""The pyfunc model that MLflow loads: images in, a table of detections out, without pickle.

MLflow runs this file from the model's folder ("models from code") with a copy of
`tandem_runtime.py`.
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
from numpy.typing import NDArray
from tandem_runtime import ImageDetections, ImageFormatError, OnnxDetector, read_image

COLUMNS = ("image", "left", "top", "right", "bottom", "score", "label", "name")
_DEFAULT_SCORE = 0.05


class ServedDetector(PythonModel):
    """Takes JPEG or PNG files in base64.

    Returns one row per detection: index of the image, box in pixels, score, class.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Open the model's ONNX file."""
        self._detector = OnnxDetector(Path(context.artifacts["onnx"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Detect objects; `params["score"]` is the minimum score."""
        score = float((params or {}).get("score", _DEFAULT_SCORE))
        rows = [
            row
            for number, image in enumerate(model_input["image"])
            for row in self._rows(
                number, self._detector.detect(_decode_image(image)).filter_by_score(score)
            )
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _rows(self, number: int, detections: ImageDetections) -> Iterable[tuple[Any, ...]]:
        for box, score, label in zip(
            detections.boxes_N4, detections.scores_N, detections.labels_N, strict=True
        ):
            edges = (float(edge) for edge in box)
            yield (number, *edges, float(score), int(label), self._detector.classes[int(label)])


def _decode_image(image: str) -> NDArray[Any]:
    try:
        return read_image(base64.b64decode(image, validate=True))
    except (binascii.Error, ImageFormatError) as error:
        raise MlflowException.invalid_parameter_value(
            f"`image` must be a JPEG or PNG file in base64: {error}"
        ) from error


mlflow.models.set_model(ServedDetector())
