"""Students as training would begin with them, and the batch that it would show them first."""

import itertools
import json
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from mmdet.models import build_detector
from torch.utils.data import DataLoader

from configs.spec.run import RunSpec
from workers.data.batches import Batch, to_device
from workers.data.loaders import build_training_loader
from workers.data.resolve import LocalDataset
from workers.models.training_config import build_training_config
from workers.training.runner import Runner
from workers.training.setup import build_runner


class StudentFactory:
    """Builds students from variants of one run: of the same data, seed and teacher.

    Within `shared_teachers` their teacher is loaded once, and looks once at the batch they share.
    """

    def __init__(self, *, dataset: LocalDataset, run_dir: Path, device: torch.device) -> None:
        self.dataset = dataset
        self.device = device
        self._run_dir = run_dir
        self._configs: dict[str, Config] = {}
        self._loaders: dict[str, DataLoader[Any]] = {}
        self._batches: dict[str, list[Batch]] = {}

    def config(self, spec: RunSpec) -> Config:
        """What training would be told."""
        key = spec.model_dump_json()
        if key not in self._configs:
            self._configs[key] = build_training_config(
                spec, dataset=self.dataset, run_dir=self._run_dir
            )
        return self._configs[key]

    def runner(self, spec: RunSpec) -> Runner:
        """The student before its first step, with what updates it."""
        classes = self.dataset.manifest.classes
        runner = build_runner(self.config(spec), spec=spec, device=self.device, classes=classes)
        runner.model.train()
        return runner

    def batch(self, spec: RunSpec) -> list[Batch]:
        """The parts of the first batch that training would see, on the device."""
        key = self.preprocessing_key(spec)
        if key not in self._batches:
            loader = self.loader(spec)
            order: Any = loader.batch_sampler
            micro_batches = itertools.islice(loader, order.share.micro_batches)
            self._batches[key] = [to_device(part, self.device) for part in micro_batches]
        return self._batches[key]

    def loader(self, spec: RunSpec) -> DataLoader[Any]:
        """Training batches from the first on, loaded in this process."""
        key = self.preprocessing_key(spec)
        if key not in self._loaders:
            self._loaders[key] = build_training_loader(
                self.config(spec), spec=disable_loader_workers(spec)
            )
        loader: Any = self._loaders[key]
        loader.dataset.set_epoch(0)
        loader.batch_sampler.begin(0, step=0)
        return self._loaders[key]

    def steps_per_epoch(self, spec: RunSpec) -> int:
        """Optimizer steps."""
        order: Any = self.loader(spec).batch_sampler
        return int(order.steps)

    def preprocessing_key(self, spec: RunSpec) -> str:
        """What images go through before the student sees them; equal words, equal images."""
        return json.dumps(self.config(spec).data.train.pipeline, sort_keys=True)

    def weight_shapes(self, spec: RunSpec) -> dict[str, tuple[int, ...]]:
        """The shape of each of the student's weights, by name."""
        model = dict(self.config(spec).model)
        for of_teacher in ("teacher", "distillation"):
            model.pop(of_teacher, None)
        return {name: tuple(of.shape) for name, of in build_detector(model).state_dict().items()}


def disable_loader_workers(spec: RunSpec) -> RunSpec:
    """The spec with images loaded by whoever asks for them."""
    data = spec.data.model_copy(update={"num_workers": 0})
    return spec.model_copy(update={"data": data})
