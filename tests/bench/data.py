"""What loading images and reporting cost, compared with a step of R101 -> R50 with BCKD.

A step of two images of 320 x 512 pixels, with two loader workers. Images are JPEG files of
640 x 480 pixels, as large as those of COCO.
"""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import torch
from mmdet.models import build_detector

from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.bench.table import Comparison, measure_s
from workers.data.batches import prefetch_to_device
from workers.data.digits import CLASSES, DigitsRecipe, draw_split
from workers.data.manifest import SPLITS, Origin, write_manifest
from workers.data.resolve import resolve_run_dataset
from workers.models.detector_config import build_detector_config
from workers.models.training_config import build_training_config
from workers.process import compat
from workers.training.runner import Runner
from workers.training.setup import SharedInputs, build_runner, build_shared_inputs

LOADER_TARGET = 1 / 1.5
"""Largest time of a loaded image as a share of a trained one."""

WAITING_TARGET = 0.02
"""Largest share of a step that waits for data."""

BATCH_SIZE = 2
_LOADED_BATCHES = 16


def measure_data(
    *,
    rounds: int,
    folder: Path,
    image_size: tuple[int, int] = (512, 320),
    depths: tuple[int, int] = (101, 50),
) -> list[Comparison]:
    """Compare loading with training steps; `depths` are those of teacher and student."""
    compat.apply_patches()
    training = _Training(folder, image_size=image_size, depths=depths)
    training.measure_step()
    measured = [training.measure_step() for _ in range(rounds)]
    loading_s = [training.measure_loading_s() for _ in range(rounds)]
    waiting_s, step_s = (list(seconds) for seconds in zip(*measured, strict=True))
    image_s = [(step - waiting) / BATCH_SIZE for waiting, step in measured]
    return [
        Comparison("a loaded image, a trained one", loading_s, image_s, target=LOADER_TARGET),
        Comparison("waiting for a batch, a step", waiting_s, step_s, target=WAITING_TARGET),
    ]


class _Training:
    """A distilled student and its loader."""

    def __init__(
        self, folder: Path, *, image_size: tuple[int, int], depths: tuple[int, int]
    ) -> None:
        spec = make_spec(folder, image_size=image_size, depths=depths)
        self.inputs: SharedInputs = build_shared_inputs(spec, dataset=resolve_run_dataset(spec))
        config = build_training_config(spec, dataset=self.inputs.dataset, run_dir=folder)
        self.runner: Runner = build_runner(
            config, spec=spec, device=self.inputs.device, classes=CLASSES
        )
        self.runner.model.train()
        self._batches = prefetch_to_device(self._iter_batches(), self.inputs.device)

    def _iter_batches(self) -> Iterator[list[Any]]:
        sampler: Any = self.inputs.training.batch_sampler
        for epoch in itertools.count():
            sampler.set_position(epoch, step=0)
            yield from ([batch] for batch in self.inputs.training)

    def measure_step(self) -> tuple[float, float]:
        """Seconds that a step waits for its batch, and seconds of the whole step."""
        start_s = time.perf_counter()
        micro_batches = next(self._batches)
        waiting_s = time.perf_counter() - start_s
        self.runner.train_step.step(micro_batches, number=1)
        return waiting_s, time.perf_counter() - start_s

    def measure_loading_s(self) -> float:
        """Seconds between two images, while the loader does nothing but load."""
        batches = iter(self.inputs.training)
        next(batches)
        loaded_s = measure_s(lambda: list(itertools.islice(batches, _LOADED_BATCHES)))
        return loaded_s / (_LOADED_BATCHES * BATCH_SIZE)


def make_spec(folder: Path, *, image_size: tuple[int, int], depths: tuple[int, int]) -> RunSpec:
    """The spec of a run with BCKD, of a teacher with random weights."""
    teacher, student = ({"backbone": {"depth": depth}} for depth in depths)
    document: dict[str, Any] = {
        "student": student,
        "data": {
            "dataset": {"root": str(write_jpeg_images(folder / "images", count=80))},
            "image_size": image_size,
            "batch_size": BATCH_SIZE,
            "num_workers": 2,
        },
        "schedule": {"epochs": 1, "optimizer": {"kind": "sgd", "lr": 1e-4}},
    }
    detector = parse_spec(document | {"student": teacher}).student
    module = build_detector(build_detector_config(detector, classes=CLASSES))
    checkpoint = folder / "teacher.pth"
    torch.save({"state_dict": module.state_dict()}, checkpoint)
    files = {"checkpoint": str(checkpoint), "detector": teacher, "classes": list(CLASSES)}
    spec = parse_spec(document | {"teacher": files, "distillation": {"method": "bckd"}})
    assert isinstance(spec, RunSpec)
    return spec


def write_jpeg_images(root: Path, *, count: int) -> Path:
    """A digits dataset whose images have the size and the format of COCO's."""
    recipe = DigitsRecipe(train=count, val=4, image_size=640, smallest=40, largest=200)
    contents = {name: draw_split(root, name, recipe) for name in SPLITS}
    write_manifest(
        root, name="digits", classes=CLASSES, contents=contents, origin=Origin(str(recipe), "none")
    )
    for path in root.rglob("*.png"):
        pixels = cv2.imread(str(path))
        assert pixels is not None
        # OpenCV reads a file by its content, whatever its name says.
        path.write_bytes(
            cv2.imencode(".jpg", pixels[:480], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        )
    return root
