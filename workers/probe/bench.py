"""Students as training would begin with them, around one teacher and one batch."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from mmdet.models import build_detector
from torch import Tensor
from torch.utils.data import DataLoader

from configs.spec import CrossKd, Cwd, FineGrained, Pkd, RunSpec, lessons
from configs.variants import is_taught
from workers.distillation.detector import refuse_mismatch
from workers.distillation.scene import Side
from workers.distillation.teacher import Teacher
from workers.loading import training_loader
from workers.recipe import DatasetPlace, config_from_spec
from workers.runner import Runner
from workers.stepping import Batch
from workers.workbench import build_runner

_MAY_BRING_ADAPTERS = (FineGrained, Pkd, Cwd, CrossKd)


class OneLook:
    """A teacher that looks at each batch once, and from then on remembers what it saw."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.detector = teacher.detector
        self.sha256 = teacher.sha256
        self.view = teacher.view
        self._seen: list[tuple[Tensor, Side]] = []

    def look(self, images_B3HW: Tensor) -> Side:
        """What the teacher makes of a batch."""
        for images, side in self._seen:
            if images.shape == images_B3HW.shape and torch.equal(images, images_B3HW):
                return side
        side = self.teacher.look(images_B3HW)
        self._seen.append((images_B3HW, side))
        return side

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Follow the student to another device; what was seen stays behind."""
        self._seen.clear()
        self.teacher.move(change)


class Bench:
    """Builds students from specs; they share their teacher and, where they see the same, a batch.

    The specs are variants of one base: of the same data, seed and teacher.
    """

    def __init__(self, *, dataset: DatasetPlace, run_dir: Path, device: torch.device) -> None:
        self.dataset = dataset
        self.device = device
        self.teacher: OneLook | None = None
        """None until the first student that is taught."""

        self._run_dir = run_dir
        self._loaders: dict[str, DataLoader[Any]] = {}
        self._batches: dict[str, list[Batch]] = {}

    def config(self, spec: RunSpec) -> Config:
        """What training would be told."""
        return config_from_spec(spec, dataset=self.dataset, run_dir=self._run_dir)

    def loader(self, spec: RunSpec) -> DataLoader[Any]:
        """Training batches from the first on, loaded in this process."""
        key = self.preparation(spec)
        if key not in self._loaders:
            self._loaders[key] = training_loader(self.config(spec), spec=in_this_process(spec))
        loader = self._loaders[key]
        loader.dataset.set_epoch(0)  # type: ignore[attr-defined]
        loader.batch_sampler.begin(0, step=0)  # type: ignore[union-attr]
        return loader

    def batch(self, spec: RunSpec) -> list[Batch]:
        """The parts of the first batch that training would see."""
        key = self.preparation(spec)
        if key not in self._batches:
            loader = self.loader(spec)
            order: Any = loader.batch_sampler
            self._batches[key] = list(itertools.islice(loader, order.share.parts))
        return self._batches[key]

    def steps_per_epoch(self, spec: RunSpec) -> int:
        """Optimizer steps."""
        order: Any = self.loader(spec).batch_sampler
        return int(order.steps)

    def preparation(self, spec: RunSpec) -> str:
        """What images go through before the student sees them; the same for equal words."""
        return json.dumps(self.config(spec).data.train.pipeline, sort_keys=True)

    def shape(self, spec: RunSpec) -> dict[str, tuple[int, ...]]:
        """The shape of each of the student's weights, by name."""
        model = dict(self.config(spec).model)
        for of_teacher in ("teacher", "distillation"):
            model.pop(of_teacher, None)
        return {name: tuple(of.shape) for name, of in build_detector(model).state_dict().items()}

    def runner(self, spec: RunSpec) -> Runner:
        """The student before its first step, with what updates it."""
        if is_taught(spec) and self.teacher is not None and not _may_bring_adapters(spec):
            return self._seated(spec, self.teacher)
        runner = self._built(self.config(spec), spec)
        if is_taught(spec):
            self.teacher = self.teacher or OneLook(runner.model.teacher)
            runner.model.teacher = self.teacher
        return runner

    def _seated(self, spec: RunSpec, teacher: OneLook) -> Runner:
        """A student beside the teacher that is there already, which is not loaded again."""
        config = self.config(spec)
        columns = config.model.pop("teacher")["columns"]
        config.model.pop("distillation")
        runner = self._built(config, spec)
        student = runner.model
        refuse_mismatch(student.bbox_head, teacher.teacher, columns=columns)
        student.lessons = list(lessons(spec.distillation))
        student.teacher, student.teacher_columns = teacher, columns
        return runner

    def _built(self, config: Config, spec: RunSpec) -> Runner:
        classes = self.dataset.manifest.classes
        runner = build_runner(config, spec=spec, device=self.device, classes=classes)
        runner.model.train()
        return runner


def in_this_process(spec: RunSpec) -> RunSpec:
    """The spec with images loaded by whoever asks for them."""
    data = spec.data.model_copy(update={"loader_workers": 0})
    return spec.model_copy(update={"data": data})


def _may_bring_adapters(spec: RunSpec) -> bool:
    return any(isinstance(lesson, _MAY_BRING_ADAPTERS) for lesson in lessons(spec.distillation))
