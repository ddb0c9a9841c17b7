"""Writes a detector as an ONNX file that names its classes and the size of its images."""

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

_EXAMPLE = (1, 3, 288, 544)
"""Shape of the image that the graph is recorded with: on no level is an edge 1 or are two equal,
for torch would take either for a rule."""


def write_onnx(path: Path, model: Any, detector: Detector, *, image_size: tuple[int, int]) -> None:
    """`model` from RGB pixels to boxes, for images of any size; `InvalidSpec` if torch cannot."""
    graph = DetectorGraph(model, detector).eval()
    image_13HW = torch.zeros(_EXAMPLE, device=next(model.parameters()).device)
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
        raise InvalidSpec(f"torch cannot write this detector as ONNX: {_first_lines(error)}") from (
            error
        )
    _name(path, classes=tuple(model.CLASSES), image_size=image_size)


def _name(path: Path, *, classes: tuple[str, ...], image_size: tuple[int, int]) -> None:
    written = onnx.load(str(path))
    facts = {CLASSES: json.dumps(classes), IMAGE_SIZE: json.dumps(image_size)}
    onnx.helper.set_model_props(written, facts)
    onnx.checker.check_model(written)
    onnx.save(written, str(path))


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
