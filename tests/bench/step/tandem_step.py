"""Tandem's step: `python -m tests.bench.step.tandem_step CASE [--precision bf16] ...`."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmdet.models import build_detector

import workers.distillation.detector  # noqa: F401  registers the detector
from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.bench.step.case import CLASSES, describe_detector
from tests.bench.step.serve import serve_steps
from workers.data.batches import Batch
from workers.models.training_config import build_student_config
from workers.process import compat
from workers.process.logs import silence_libraries
from workers.training.optimizers import UncompiledSgd
from workers.training.step import TrainStep


class TandemStep:
    """A student with its teacher and optimizer, built as the trainer builds them."""

    def __init__(
        self, case: dict[str, Any], *, compute: dict[str, Any], is_distilled: bool = True
    ) -> None:
        compat.apply_patches()
        self._number = 0
        self.batch = _make_batch(case)
        with tempfile.NamedTemporaryFile(suffix=".pth") as file:
            torch.save({"state_dict": case["teacher"]}, file.name)
            spec = _make_spec(case, Path(file.name), compute=compute, is_distilled=is_distilled)
            self.model = build_detector(build_student_config(spec, classes=CLASSES))
        self.model.load_state_dict(case["student"], strict=True)
        self.model.train()
        if spec.compute.channels_last:
            self.model.to(memory_format=torch.channels_last)
        optimizer = UncompiledSgd(
            [parameter for parameter in self.model.parameters() if parameter.requires_grad],
            lr=case["learning_rate"],
            momentum=0.9,
            weight_decay=1e-4,
        )
        self._train_step = TrainStep(
            self.model,
            optimizer,
            device=torch.device("cpu"),
            precision=spec.compute.precision,
            max_grad_norm=None,
        )

    def __call__(self) -> dict[str, float]:
        self._number += 1
        outputs = self._train_step.step([self.batch], number=self._number)
        return {name: float(value) for name, value in outputs["log_vars"].items()}


def _make_spec(
    case: dict[str, Any], teacher: Path, *, compute: dict[str, Any], is_distilled: bool
) -> RunSpec:
    document: dict[str, Any] = {
        "student": describe_detector(case["student_depth"], is_student=True).model_dump(),
        "data": {"dataset": {"root": "unused"}, "batch_size": len(case["images"])},
        "schedule": {"epochs": 1, "optimizer": {"kind": "sgd", "lr": case["learning_rate"]}},
        "compute": compute,
    }
    if is_distilled:
        document["distillation"] = {
            "method": "bckd",
            "cls_weight": case["cls_weight"],
            "loc_weight": case["loc_weight"],
            "levels": "with_positives",
        }
        document["teacher"] = {
            "checkpoint": str(teacher),
            "detector": describe_detector(case["teacher_depth"], is_student=False).model_dump(),
            "classes": list(CLASSES),
        }
    return parse_spec(document)


def _make_batch(case: dict[str, Any]) -> Batch:
    height, width = case["images"].shape[-2:]
    shape = (height, width, 3)
    return {
        "img": case["images"],
        "img_metas": [{"img_shape": shape, "pad_shape": shape, "seed": 0}] * len(case["images"]),
        "gt_bboxes": case["boxes"],
        "gt_labels": case["labels"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", type=Path)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--channels-last", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    silence_libraries()
    compute = {"precision": arguments.precision, "channels_last": arguments.channels_last}
    case = torch.load(arguments.case, weights_only=True)
    step = TandemStep(case, compute=compute)
    del case  # its weights would count as memory of the step
    serve_steps(step)


if __name__ == "__main__":
    main()
