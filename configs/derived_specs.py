"""Specs derived from other specs (trials, baselines), and digests that tell equal ones."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from configs.catalog import apply_changes, parse_spec
from configs.protocol.probe import Probe
from configs.spec.active_methods import iter_methods
from configs.spec.base import TeacherControl
from configs.spec.distillation import Bckd, NoDistillation
from configs.spec.run import RunSpec
from configs.spec.search import BALANCE, RATIO
from configs.spec.sweep import Values

_DISCRIMINATORS = ("method", "kind")
"""Fields that decide which other fields their object has."""

_WEIGHTS = ("cls_weight", "loc_weight")
_CLS, _LOC = (f"distillation.{name}" for name in _WEIGHTS)
_NO_EFFECT: dict[str, Any] = {
    "resources": True,
    "checkpoints": True,
    "tags": True,
    "loss_shares_every_steps": True,
    "evaluation": {"pictures"},
    "data": {"num_workers"},
}
"""Fields that do not affect a run's results."""

_DEFAULT_BALANCE = 0.5


def trial_spec(base: RunSpec, values: Values, *, seed: int, probe: Probe | None = None) -> RunSpec:
    """`base` with a trial's values. Raises `SpecError` if they do not fit together.

    Where a value chooses another method or kind, the fields of the old one are dropped. A BCKD
    trial with both weights 0 becomes a baseline with the trial's schedule and student. `ratio`
    needs a probe, and raises `ValueError` without one.
    """
    fields = resolve_weights(values, probe)
    document = _apply_discriminators(base, fields)
    if _is_without_distillation(document, fields):
        fields = {path: fields[path] for path in fields if path.split(".")[0] != "distillation"}
        document = _apply_discriminators(baseline_spec(base), fields)
    return parse_spec(apply_changes(document, {**fields, "seed": seed}))


def _apply_discriminators(base: RunSpec, fields: Values) -> dict[str, JsonValue]:
    """The document of `base` after the values of `fields` that choose methods and kinds."""
    document: dict[str, JsonValue] = base.model_dump(mode="json")
    for path in sorted(fields):
        document = _set_discriminator(document, path, fields[path])
    return document


def resolve_weights(values: Values, probe: Probe | None) -> Values:
    """Replace `ratio` and `balance` by the two weights that they stand for."""
    if RATIO not in values:
        return dict(values)
    if probe is None:
        raise ValueError("the parameter ratio needs the measurements of a probe, and there is none")
    share = float(values.get(BALANCE, _DEFAULT_BALANCE))
    distillation_loss = float(values[RATIO]) * probe.detection_loss
    fields = {path: value for path, value in values.items() if path not in (RATIO, BALANCE)}
    return fields | {
        _CLS: distillation_loss * share / probe.unit_losses[_CLS],
        _LOC: distillation_loss * (1.0 - share) / probe.unit_losses[_LOC],
    }


def baseline_spec(spec: RunSpec) -> RunSpec:
    """The baseline of a distilled run: the same student, seed and batches without a teacher.

    It inherits nothing either, so what a distilled student inherits is a part of its gain; so is
    what it learns from images without labels, which need a teacher.
    """
    compute = spec.compute.model_copy(update={"teacher_precision": None})
    student = spec.student.model_copy(update={"inherit": ()})
    data = spec.data.model_copy(update={"unlabelled": None})
    return spec.model_copy(
        update={
            "student": student,
            "teacher": None,
            "distillation": NoDistillation(),
            "teacher_classes": "same",
            "control": None,
            "compute": compute,
            "data": data,
        }
    )


def control_spec(spec: RunSpec, control: TeacherControl) -> RunSpec:
    """A control of a distilled run: the same but for its teacher. Raises `SpecError` if the run
    cannot have it."""
    document: dict[str, JsonValue] = spec.model_dump(mode="json")
    return parse_spec(apply_changes(document, {"control": control}))


def is_distilled(spec: RunSpec) -> bool:
    """Whether at least one method distills from a teacher."""
    return any(True for _ in iter_methods(spec.distillation))


def spec_digest(spec: RunSpec, *, dataset_digest: str) -> str:
    """Digest of all fields that affect results: equal for runs that compute the same numbers."""
    fields = spec.model_dump(mode="json", exclude=_NO_EFFECT)
    fields["data"]["dataset"] = dataset_digest
    return _digest(fields)


def seedless_digest(spec: RunSpec, *, dataset_digest: str) -> str:
    """Digest that is equal for runs that differ in their seed alone."""
    return spec_digest(spec.model_copy(update={"seed": 0}), dataset_digest=dataset_digest)


def seed_group_key(spec: RunSpec, *, dataset_digest: str) -> str:
    """Digest that is equal for runs of one student on the same data and schedule, with any teacher:
    their results vary alike over seeds."""
    return seedless_digest(baseline_spec(spec), dataset_digest=dataset_digest)


def teacher_key(spec: RunSpec, *, dataset_digest: str) -> str | None:
    """Digest that is equal for runs that measure the same teacher on the same images; None without
    a teacher."""
    if spec.teacher is None:
        return None
    fields = spec.model_dump(mode="json", include={"teacher", "teacher_classes", "control"})
    fields["image_size"] = spec.data.image_size
    fields |= spec.evaluation.model_dump(include={"val_images", "max_detections"})
    return _digest(fields | {"dataset": dataset_digest})


def pack_key(spec: RunSpec) -> str:
    """Digest that is equal for runs that can train in one pack: same batches, epochs and student.

    It leaves the teacher out, because a baseline fits into any pack; see `can_share_teacher`.
    """
    baseline = baseline_spec(spec)
    fields = baseline.model_dump(mode="json", exclude={"tags": True, "checkpoints": True})
    fields["schedule"] = {"epochs": spec.schedule.epochs}
    return _digest(fields)


def can_share_teacher(first: RunSpec, second: RunSpec) -> bool:
    """Whether two runs of one pack key have the same teacher, or at least one has none.

    Both need the same images without labels, or at least one has none.
    """
    if not (is_distilled(first) and is_distilled(second)):
        return True
    images = {spec.data.unlabelled for spec in (first, second)} - {None}
    if len(images) > 1:
        return False
    return _teacher_fields(first) == _teacher_fields(second)


def _teacher_fields(spec: RunSpec) -> tuple[object, ...]:
    """What determines the teacher's outputs; a shuffled teacher is the teacher itself."""
    is_trained = spec.control != "random_teacher"
    return spec.teacher, spec.teacher_classes, spec.compute.teacher_precision, is_trained


def _is_without_distillation(document: Mapping[str, JsonValue], fields: Values) -> bool:
    method = document["distillation"]
    if not isinstance(method, dict) or method["method"] != Bckd().method:
        return False
    extra = method.get("extra")
    if isinstance(extra, dict) and any(extra.values()):
        return False
    return all(fields.get(f"distillation.{name}", method.get(name)) == 0 for name in _WEIGHTS)


def _set_discriminator(
    document: dict[str, JsonValue], path: str, value: JsonValue
) -> dict[str, JsonValue]:
    """The document with another method or kind at `path`, which drops the neighboring fields; the
    same document if `path` is no discriminator or has the value already."""
    *parents, last = path.split(".")
    if last not in _DISCRIMINATORS:
        return document
    node: Any = document
    for name in parents:
        node = node.get(name) if isinstance(node, dict) else None
    if not isinstance(node, dict) or node.get(last) == value:
        return document
    return apply_changes(document, {".".join(parents): {last: value}})


def _digest(fields: Any) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
