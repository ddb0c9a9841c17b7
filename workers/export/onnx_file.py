"""Writes a detector as an ONNX file with its classes and image size in the metadata."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.export import Dim

from configs.spec.detector import Detector
from workers.errors import InvalidSpec
from workers.export.graph import DetectorGraph
from workers.export.tandem_runtime import CLASSES, IMAGE_SIZE

_EXAMPLE_SHAPE = (1, 3, 288, 544)
"""Shape of the image for tracing. On no level is an edge 1, and no two edges are equal: torch would
specialize the graph to either."""


def write_onnx(path: Path, model: Any, detector: Detector, *, image_size: tuple[int, int]) -> None:
    """Export `model` for images of any size; `InvalidSpec` if torch does not support it."""
    graph = DetectorGraph(model, detector).eval()
    image_13HW = torch.zeros(_EXAMPLE_SHAPE, device=next(model.parameters()).device)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                graph,
                (image_13HW,),
                str(path),
                dynamo=True,
                input_names=["image"],
                output_names=["boxes", "scores", "labels"],
                dynamic_shapes={"image_13HW": {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}},
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise InvalidSpec(f"torch cannot write this detector as ONNX: {_summarize(error)}") from (
            error
        )
    _write_metadata(path, classes=tuple(model.CLASSES), image_size=image_size)


def _write_metadata(path: Path, *, classes: tuple[str, ...], image_size: tuple[int, int]) -> None:
    model_proto = onnx.load(str(path))
    metadata = {CLASSES: json.dumps(classes), IMAGE_SIZE: json.dumps(image_size)}
    onnx.helper.set_model_props(model_proto, metadata)
    onnx.checker.check_model(model_proto)
    onnx.save(model_proto, str(path))


def _summarize(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
