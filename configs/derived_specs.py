"""Specs that follow from another one: a trial's, a baseline's; and what makes two of them equal."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from configs.catalog import apply_changes, parse_spec
from configs.protocol.probe import Probe
from configs.spec.distillation import Bckd, NoDistillation, iter_methods
from configs.spec.run import RunSpec
from configs.spec.search import BALANCE, RATIO
from configs.spec.sweep import Values

_SWITCHES = ("method", "kind")
"""Fields that say which fields their neighbours are."""

_WEIGHTS = ("cls_weight", "loc_weight")
_CLS, _LOC = (f"distillation.{name}" for name in _WEIGHTS)
_WITHOUT_EFFECT: dict[str, Any] = {
    "resources": True,
    "checkpoints": True,
    "tags": True,
    "loss_shares_every_steps": True,
    "evaluation": {"pictures"},
    "data": {"num_workers"},
}
"""Fields that move no number of a run."""

_EVEN = 0.5


def trial_spec(base: RunSpec, values: Values, *, seed: int, probe: Probe | None = None) -> RunSpec:
    """`base` with a trial's values; `SpecError` if they do not go together.

    Where a value chooses another method or kind, the base's fields of the old one are left out.
    A BCKD trial with both weights 0 is the student alone, with the trial's schedule and student.
    `ratio` needs what the probe measured.
    """
    fields = resolve_weights(values, probe)
    document = _with_switches(base, fields)
    if _teaches_nothing(document, fields):
        fields = {path: fields[path] for path in fields if path.split(".")[0] != "distillation"}
        document = _with_switches(baseline_spec(base), fields)
    return parse_spec(apply_changes(document, {**fields, "seed": seed}))


def _with_switches(base: RunSpec, fields: Values) -> dict[str, JsonValue]:
    """The document of `base` with the methods and kinds that `fields` choose."""
    document: dict[str, JsonValue] = base.model_dump(mode="json")
    for path in sorted(fields):
        document = _switched(document, path, fields[path])
    return document


def resolve_weights(values: Values, probe: Probe | None) -> Values:
    """Values with the two weights that `ratio` and `balance` stand for in their place."""
    if RATIO not in values:
        return dict(values)
    if probe is None:
        raise ValueError("ratio is measured by a probe, and there is none")
    share = float(values.get(BALANCE, _EVEN))
    whole = float(values[RATIO]) * probe.detection_loss
    rest = {path: value for path, value in values.items() if path not in (RATIO, BALANCE)}
    return rest | {
        _CLS: whole * share / probe.unit_losses[_CLS],
        _LOC: whole * (1.0 - share) / probe.unit_losses[_LOC],
    }


def baseline_spec(spec: RunSpec) -> RunSpec:
    """The same student, seed and batches without a teacher."""
    compute = spec.compute.model_copy(update={"teacher_precision": None})
    return spec.model_copy(
        update={
            "teacher": None,
            "distillation": NoDistillation(),
            "teacher_classes": "same",
            "compute": compute,
        }
    )


def is_distilled(spec: RunSpec) -> bool:
    """Whether a teacher takes part."""
    return any(True for _ in iter_methods(spec.distillation))


def spec_digest(spec: RunSpec, *, dataset_digest: str) -> str:
    """Equal for runs that compute the same numbers: what may differ is left out."""
    fields = spec.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    fields["data"]["dataset"] = dataset_digest
    return _digest(fields)


def seedless_digest(spec: RunSpec, *, dataset_digest: str) -> str:
    """Equal for runs that differ in their seed alone."""
    return spec_digest(spec.model_copy(update={"seed": 0}), dataset_digest=dataset_digest)


def seed_group_key(spec: RunSpec, *, dataset_digest: str) -> str:
    """Equal for runs of one student on the same data and schedule, whoever teaches: they scatter
    alike over seeds."""
    return seedless_digest(baseline_spec(spec), dataset_digest=dataset_digest)


def pack_key(spec: RunSpec) -> str:
    """Equal for runs that can train side by side: same batches, student and, if any, teacher.

    The teacher is no part of it: a baseline goes along with any; see `can_share_teacher`.
    """
    alone = baseline_spec(spec)
    fields = alone.model_dump(mode="json", exclude={"tags": True, "checkpoints": True})
    fields["schedule"] = {"epochs": spec.schedule.epochs}
    return _digest(fields)


def can_share_teacher(one: RunSpec, other: RunSpec) -> bool:
    """Whether two runs of one pack key have the same teacher, or one of them has none."""
    if not (is_distilled(one) and is_distilled(other)):
        return True
    return (one.teacher, one.teacher_classes, one.compute.teacher_precision) == (
        other.teacher,
        other.teacher_classes,
        other.compute.teacher_precision,
    )


def _teaches_nothing(document: Mapping[str, JsonValue], fields: Values) -> bool:
    method = document["distillation"]
    if not isinstance(method, dict) or method["method"] != Bckd().method:
        return False
    companions = method.get("extra")
    if isinstance(companions, dict) and any(companions.values()):
        return False
    return all(fields.get(f"distillation.{name}", method.get(name)) == 0 for name in _WEIGHTS)


def _switched(document: dict[str, JsonValue], path: str, value: JsonValue) -> dict[str, JsonValue]:
    """The document with the value in it; another method or kind sweeps its neighbours away."""
    *parents, last = path.split(".")
    if last not in _SWITCHES:
        return document
    holder: Any = document
    for name in parents:
        holder = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(holder, dict) or holder.get(last) == value:
        return document
    return apply_changes(document, {".".join(parents): {last: value}})


def _digest(fields: Any) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
