"""Draws sample validation images with the boxes of ground truth, teacher and student."""

from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from PIL import Image

from configs.protocol.names import RunFile
from workers.evaluation.coco import CocoMetrics
from workers.evaluation.detection import Detections
from workers.evaluation.drawing import (
    COLORS,
    Panel,
    choose_picture_name,
    draw_side_by_side,
    stack_vertically,
)

_MIN_SCORE = 0.3
_OVERVIEW = "overview.png"


def write_sample_images(
    run_dir: Path, dataset: Any, *, student: CocoMetrics, teacher: CocoMetrics | None, count: int
) -> list[str]:
    """Draw `count` evenly spaced images; returns paths relative to `run_dir`, overview first."""
    count = min(count, len(dataset))
    if count == 0:
        return []
    (run_dir / RunFile.PICTURES).mkdir(exist_ok=True)
    pictures, paths, names = [], [], {_OVERVIEW}
    for index in np.linspace(0, len(dataset) - 1, count).round().astype(int):
        picture = _draw_sample(dataset, int(index), student=student, teacher=teacher)
        pictures.append(picture)
        name = choose_picture_name(Path(dataset.data_infos[index]["file_name"]), names)
        names.add(name)
        paths.append(_save(picture, run_dir, name))
    return [_save(stack_vertically(pictures), run_dir, _OVERVIEW), *paths]


def _draw_sample(
    dataset: Any, index: int, *, student: CocoMetrics, teacher: CocoMetrics | None
) -> Image.Image:
    image_info = dataset.data_infos[index]
    image = mmcv.imread(
        str(Path(dataset.img_prefix) / image_info["file_name"]), channel_order="rgb"
    )
    truth = dataset.get_ann_info(index)
    panels = [Panel("truth", COLORS["truth"], truth["bboxes"], truth["labels"])]
    if teacher is not None:
        panels.append(_build_panel("teacher", teacher.detections[index]))
    panels.append(_build_panel("student", student.detections[index]))
    return draw_side_by_side(image, panels, class_names=dataset.CLASSES)


def _build_panel(side: str, detections: Detections) -> Panel:
    rows = np.concatenate(detections)
    labels = np.repeat(np.arange(len(detections)), [len(boxes) for boxes in detections])
    is_confident = rows[:, 4] >= _MIN_SCORE
    return Panel(
        side, COLORS[side], rows[is_confident, :4], labels[is_confident], rows[is_confident, 4]
    )


def _save(picture: Image.Image, run_dir: Path, name: str) -> str:
    path = f"{RunFile.PICTURES}/{name}"
    picture.save(run_dir / path)
    return path
