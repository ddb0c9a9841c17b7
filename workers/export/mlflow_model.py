"""A model that `mlflow models serve` serves, around an ONNX file; and asking one as it would."""

import base64
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from workers.export import tandem_runtime
from workers.export.tandem_runtime import Array, ImageDetections

_HERE = Path(__file__).parent
_PACKAGES = ("mlflow", "numpy", "onnxruntime", "opencv-python-headless", "pandas")
_LOWEST_SCORE = 0.05


def write_mlflow_model(folder: Path, onnx_file: Path) -> None:
    """A pyfunc model from code: base64 images in, a table of detections out."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    shutil.rmtree(folder, ignore_errors=True)
    # MLflow runs the code once while it writes it; where it is served, the copy lies beside it.
    sys.modules.setdefault("tandem_runtime", tandem_runtime)
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(_HERE / "served.py"),
        code_paths=[str(_HERE / "tandem_runtime.py")],
        artifacts={"onnx": str(onnx_file)},
        signature=_signature(),
        pip_requirements=[f"{name}=={version(name)}" for name in _PACKAGES],
    )


class MlflowDetector:
    """A model as MLflow loads it, asked with one image at a time."""

    def __init__(self, folder: Path) -> None:
        self._model = mlflow.pyfunc.load_model(str(folder))

    def detect(self, image_HW3: Array) -> ImageDetections:
        """What is in an RGB image of bytes; it travels as PNG, which loses nothing."""
        table = self._model.predict(pd.DataFrame({"image": [encode_image(image_HW3)]}))
        return parse_predictions(table)


def encode_image(image_HW3: Array) -> str:
    """An RGB image as the model takes it."""
    _, png = cv2.imencode(".png", cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR))
    return base64.b64encode(png.tobytes()).decode("ascii")


def parse_predictions(table: pd.DataFrame) -> ImageDetections:
    """The model's table for a single image."""
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
        params=ParamSchema([ParamSpec("score", number, _LOWEST_SCORE)]),
    )
