"""Going on where a run was: what a checkpoint holds, and whether it is the same run's."""

import json
from collections.abc import Iterator
from typing import Any

import torch
from mmcv.runner.checkpoint import get_state_dict, weights_to_cpu

from configs.spec.dataset import ClassNames, DatasetManifest
from configs.spec.run import RunSpec
from workers import distributed
from workers.errors import ResumeRefused
from workers.training.runner import Runner

Checkpoint = dict[str, Any]

_ADAPTERS = "adapters."
_FREE = {
    "resources": True,
    "checkpoints": True,
    "tags": True,
    "loss_shares_every_steps": True,
    "evaluation": {"pictures"},
    "data": {"num_workers", "dataset"},
    "teacher": {"checkpoint", "sha256"},
}
"""What may change between two attempts: it moves no number."""


def run_identity(
    spec: RunSpec, *, dataset: DatasetManifest, teacher_sha256: str | None
) -> dict[str, Any]:
    """What makes a run this one; two attempts of a run agree in all of it."""
    fields = spec.model_dump(mode="json", exclude=_FREE)  # type: ignore[arg-type]
    return {"spec": fields, "dataset": dataset.digest, "teacher": teacher_sha256}


def build_checkpoint(
    runner: Runner,
    *,
    identity: dict[str, Any],
    classes: ClassNames,
    epoch: int,
    step: int,
    hook_states: dict[str, Any],
) -> Checkpoint:
    """Everything that the rest of training depends on.

    Random states are not among it: every draw follows from seed, step, process and image.
    `memory` is what hooks remember: the best score, sums of an unfinished interval.
    """
    return {
        "meta": {
            "CLASSES": classes,
            "epoch": epoch,
            "iter": step,
            "identity": json.dumps(identity, sort_keys=True),
            "memory": hook_states,
        },
        "state_dict": weights_to_cpu(get_state_dict(distributed.unwrap_ddp(runner.model))),
        "optimizer": runner.optimizer.state_dict(),
        "scaler": runner.train_step.scaler.state_dict(),
    }


def extract_student(checkpoint: Checkpoint) -> Checkpoint:
    """The student alone: mmdet's detector, without optimizer and adapters to the teacher."""
    meta = {key: checkpoint["meta"][key] for key in ("CLASSES", "epoch", "iter")}
    weights = {
        name: tensor
        for name, tensor in checkpoint["state_dict"].items()
        if not name.startswith(_ADAPTERS)
    }
    return {"meta": meta, "state_dict": weights}


def resume_runner(runner: Runner, checkpoint: Checkpoint, *, identity: dict[str, Any]) -> None:
    """Bring `runner` to where it was; `ResumeRefused` if the checkpoint is another run's."""
    meta = checkpoint["meta"]
    before = json.loads(meta["identity"])
    found = list(find_differences(before, json.loads(json.dumps(identity))))
    if found:
        raise ResumeRefused(
            "The checkpoint in this folder is of another run: " + "; ".join(found) + ". Launch "
            "a new run for a new spec; this one goes on only as it began."
        )
    distributed.unwrap_ddp(runner.model).load_state_dict(checkpoint["state_dict"], strict=True)
    runner.optimizer.load_state_dict(checkpoint["optimizer"])
    runner.train_step.scaler.load_state_dict(checkpoint["scaler"])
    runner.go_on_from(epoch=meta["epoch"], step=meta["iter"])


def find_differences(before: Any, now: Any, *, field: str = "") -> Iterator[str]:
    """Where two documents differ, as `field: old, now new`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            path = f"{field}.{key}" if field else key
            yield from find_differences(before.get(key), now.get(key), field=path)
    elif before != now:
        yield f"{field}: {before}, now {now}"


def load_student(model: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Fill the student inside of `model`, which may have adapters beside it."""
    own = model.state_dict()
    adapters = {name: tensor for name, tensor in own.items() if name.startswith(_ADAPTERS)}
    model.load_state_dict(checkpoint["state_dict"] | adapters, strict=True)
