"""Training checkpoints: what they hold, and how a run resumes from its own."""

import json
from collections.abc import Iterator
from typing import Any

import torch
from mmcv.runner.checkpoint import get_state_dict, weights_to_cpu

from configs.spec.base import DEFAULT_MAX_DETECTIONS
from configs.spec.dataset import ClassNames, DatasetManifest
from configs.spec.run import RunSpec
from workers import distributed
from workers.checkpoints.files import ADAPTERS
from workers.errors import IncompatibleRunFolder, ResumeRefused
from workers.training.runner import Runner

Checkpoint = dict[str, Any]

_CHANGEABLE_FIELDS = {
    "resources": True,
    "checkpoints": True,
    "tags": True,
    "loss_shares_every_steps": True,
    "evaluation": {"pictures"},
    "data": {"num_workers": True, "dataset": True, "unlabelled": {"dataset"}},
    "teacher": {"checkpoint", "sha256"},
}
"""Spec fields that may differ between two attempts of a run: they do not influence its results."""

_SECTIONS_WITHOUT_VARIANTS = ("compute", "data", "evaluation", "schedule")
"""Sections of a spec that have the same fields in all specs of one version of Tandem."""

_FIELDS_WITHOUT_DEFAULT: tuple[tuple[str, str, Any], ...] = (
    ("evaluation", "max_detections", DEFAULT_MAX_DETECTIONS),
    ("schedule", "ema", None),
    ("data", "mosaic", None),
    ("data", "mixup", None),
    ("data", "unlabelled", None),
)
"""Section, field and default of what specs leave out where it has its default."""


def run_identity(
    spec: RunSpec,
    *,
    dataset: DatasetManifest,
    teacher_sha256: str | None,
    unlabelled: DatasetManifest | None = None,
) -> dict[str, Any]:
    """What determines a run's results; it must be equal in all attempts of the run."""
    fields = spec.model_dump(mode="json", exclude=_CHANGEABLE_FIELDS)  # type: ignore[arg-type]
    identity = {"spec": fields, "dataset": dataset.digest, "teacher": teacher_sha256}
    return identity if unlabelled is None else identity | {"unlabelled": unlabelled.digest}


def build_checkpoint(
    runner: Runner,
    *,
    identity: dict[str, Any],
    classes: ClassNames,
    epoch: int,
    step: int,
    hook_states: dict[str, Any],
) -> Checkpoint:
    """Everything that the rest of the training depends on.

    Random states are not part of it: they follow from seed, step, rank and image. `hook_states`
    holds the state of hooks, as the best score and the sums of an unfinished interval.

    `state_dict` is the student, for any reader. With an EMA these are the averaged weights, and
    `training_state_dict` has those that the next step continues with.
    """
    weights = weights_to_cpu(get_state_dict(distributed.unwrap_ddp(runner.model)))
    averaged = {} if runner.ema is None else {"training_state_dict": weights}
    return {
        "meta": {
            "CLASSES": classes,
            "epoch": epoch,
            "iter": step,
            "identity": json.dumps(identity, sort_keys=True),
            "memory": hook_states,
        },
        "state_dict": weights if runner.ema is None else weights | runner.ema.state_dict(),
        "optimizer": runner.optimizer.state_dict(),
        "scaler": runner.train_step.scaler.state_dict(),
        **averaged,
    }


def extract_student(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint of the plain mmdet detector, without optimizer and distillation adapters."""
    meta = {key: checkpoint["meta"][key] for key in ("CLASSES", "epoch", "iter")}
    weights = {
        name: tensor
        for name, tensor in checkpoint["state_dict"].items()
        if not name.startswith(ADAPTERS)
    }
    return {"meta": meta, "state_dict": weights}


def resume_runner(runner: Runner, checkpoint: Checkpoint, *, identity: dict[str, Any]) -> None:
    """Restore model, EMA, optimizer, scaler and position of `runner`.

    Raises `ResumeRefused` if the checkpoint belongs to another run, and `IncompatibleRunFolder` if
    another version of Tandem wrote it.
    """
    meta = checkpoint["meta"]
    before, now = json.loads(meta["identity"]), json.loads(json.dumps(identity))
    for document in (before, now):
        for section, field, default in _FIELDS_WITHOUT_DEFAULT:
            document["spec"].setdefault(section, {}).setdefault(field, default)
    if renamed := find_format_differences(before["spec"], now["spec"]):
        raise IncompatibleRunFolder("The checkpoint in this folder", renamed)
    differences = list(find_differences(before, now))
    if differences:
        raise ResumeRefused(
            "The checkpoint in this folder belongs to another run: "
            + "; ".join(differences)
            + ". Launch a new run for a new spec; a run resumes only with the spec it started with."
        )
    weights = checkpoint.get("training_state_dict", checkpoint["state_dict"])
    distributed.unwrap_ddp(runner.model).load_state_dict(weights, strict=True)
    if runner.ema is not None:
        runner.ema.load_state_dict(checkpoint["state_dict"])
    runner.optimizer.load_state_dict(checkpoint["optimizer"])
    runner.train_step.scaler.load_state_dict(checkpoint["scaler"])
    runner.resume_from(epoch=meta["epoch"], step=meta["iter"])


def find_format_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Fields that only one of two specs has because different versions of Tandem wrote them."""
    return [
        f"{section}.{field}"
        for section in _SECTIONS_WITHOUT_VARIANTS
        for field in sorted(before.get(section, {}).keys() ^ now.get(section, {}).keys())
    ]


def find_differences(before: Any, now: Any, *, field: str = "") -> Iterator[str]:
    """Compare two JSON documents; yields `field: old, now new` for each difference."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            path = f"{field}.{key}" if field else key
            yield from find_differences(before.get(key), now.get(key), field=path)
    elif before != now:
        yield f"{field}: {before}, now {now}"


def load_student(model: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Load the student's weights; distillation adapters of `model`, if any, stay as they are."""
    current = model.state_dict()
    adapters = {name: tensor for name, tensor in current.items() if name.startswith(ADAPTERS)}
    model.load_state_dict(checkpoint["state_dict"] | adapters, strict=True)
