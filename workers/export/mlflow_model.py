"""Writes an MLflow pyfunc model around an ONNX file, and runs one as a server would."""

import base64
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from numpy.typing import NDArray

from workers.export import tandem_runtime
from workers.export.tandem_runtime import ImageDetections

_MODULE_DIR = Path(__file__).parent
_REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "opencv-python-headless", "pandas")
_DEFAULT_SCORE = 0.05


def write_mlflow_model(folder: Path, onnx_file: Path) -> None:
    """Write a pyfunc model from code: base64 images in, a table of detections out."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    shutil.rmtree(folder, ignore_errors=True)
    # MLflow runs the code once on saving; a served model imports the copy in `code_paths`.
    sys.modules.setdefault("tandem_runtime", tandem_runtime)
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(_MODULE_DIR / "mlflow_pyfunc.py"),
        code_paths=[str(_MODULE_DIR / "tandem_runtime.py")],
        artifacts={"onnx": str(onnx_file)},
        signature=_signature(),
        pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS],
    )


class MlflowDetector:
    """A model loaded by MLflow, for single images."""

    def __init__(self, folder: Path) -> None:
        self._model = mlflow.pyfunc.load_model(str(folder))

    def detect(self, image_HW3: NDArray[Any]) -> ImageDetections:
        """Detect objects in an RGB image, uint8, which is sent as lossless PNG."""
        table = self._model.predict(pd.DataFrame({"image": [encode_image(image_HW3)]}))
        return parse_predictions(table)


def encode_image(image_HW3: NDArray[Any]) -> str:
    """Encode an RGB image as base64 PNG, the model's input."""
    _, png = cv2.imencode(".png", cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR))
    return base64.b64encode(png.tobytes()).decode("ascii")


def parse_predictions(table: pd.DataFrame) -> ImageDetections:
    """Parse the model's table of detections for a single image."""
    boxes_N4 = table[["left", "top", "right", "bottom"]].to_numpy(dtype=np.float32)
    scores_N = table["score"].to_numpy(dtype=np.float32)
    return ImageDetections(boxes_N4, scores_N, table["label"].to_numpy(dtype=np.int64))


def _signature() -> ModelSignature:
    number, text = DataType.double, DataType.string
    edges = [ColSpec(number, edge) for edge in ("left", "top", "right", "bottom")]
    return ModelSignature(
        inputs=Schema([ColSpec(text, "image")]),
        outputs=Schema(
            [
                ColSpec(DataType.long, "image"),
                *edges,
                ColSpec(number, "score"),
                ColSpec(DataType.long, "label"),
                ColSpec(text, "name"),
            ]
        ),
        params=ParamSchema([ParamSpec("score", number, _DEFAULT_SCORE)]),
    )
