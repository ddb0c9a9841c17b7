"""Builds students as training would, with the first batch of training."""

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
    """Builds students from variants of one run with the same data, seed and teacher.

    Within `share_teachers` the teacher is loaded once and runs once on the shared batch.
    """

    def __init__(self, *, dataset: LocalDataset, run_dir: Path, device: torch.device) -> None:
        self.dataset = dataset
        self.device = device
        self._run_dir = run_dir
        self._configs: dict[str, Config] = {}
        self._loaders: dict[str, DataLoader[Any]] = {}
        self._batches: dict[str, list[Batch]] = {}

    def config(self, spec: RunSpec) -> Config:
        """The mmcv config that training would use."""
        key = spec.model_dump_json()
        if key not in self._configs:
            self._configs[key] = build_training_config(
                spec, dataset=self.dataset, run_dir=self._run_dir
            )
        return self._configs[key]

    def runner(self, spec: RunSpec) -> Runner:
        """Build the student before its first step, with its optimizer."""
        classes = self.dataset.manifest.classes
        runner = build_runner(self.config(spec), spec=spec, device=self.device, classes=classes)
        runner.model.train()
        return runner

    def batch(self, spec: RunSpec) -> list[Batch]:
        """The first batch of training, as micro-batches on the device."""
        key = self.preprocessing_key(spec)
        if key not in self._batches:
            loader = self.loader(spec)
            sampler: Any = loader.batch_sampler
            micro_batches = itertools.islice(loader, sampler.shard.num_micro_batches)
            self._batches[key] = [
                to_device(micro_batch, self.device) for micro_batch in micro_batches
            ]
        return self._batches[key]

    def loader(self, spec: RunSpec) -> DataLoader[Any]:
        """Training batches from the first one, loaded in this process."""
        key = self.preprocessing_key(spec)
        if key not in self._loaders:
            self._loaders[key] = build_training_loader(
                self.config(spec).data, spec=disable_loader_workers(spec)
            )
        loader: Any = self._loaders[key]
        loader.dataset.set_epoch(0)
        loader.batch_sampler.set_position(0, step=0)
        return self._loaders[key]

    def steps_per_epoch(self, spec: RunSpec) -> int:
        """Number of optimizer steps per epoch."""
        sampler: Any = self.loader(spec).batch_sampler
        return int(sampler.steps_per_epoch)

    def preprocessing_key(self, spec: RunSpec) -> str:
        """Preprocessing, mixed and unlabelled images as text; equal text means equal images."""
        mixed = spec.data.model_dump(mode="json", include={"mosaic", "mixup", "unlabelled"})
        return json.dumps([self.config(spec).data.train.pipeline, mixed], sort_keys=True)

    def weight_shapes(self, spec: RunSpec) -> dict[str, tuple[int, ...]]:
        """Shape of each weight of the student, by name."""
        config = dict(self.config(spec).model)
        for key in ("teacher", "distillation"):
            config.pop(key, None)
        return {
            name: tuple(weight.shape)
            for name, weight in build_detector(config).state_dict().items()
        }


def disable_loader_workers(spec: RunSpec) -> RunSpec:
    """Copy the spec so that images are loaded in this process."""
    data = spec.data.model_copy(update={"num_workers": 0})
    return spec.model_copy(update={"data": data})
