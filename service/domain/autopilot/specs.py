"""Specs of an autopilot's runs, and the methods that fit its detectors."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, get_args

from configs.catalog import SpecError
from configs.derived_specs import baseline_spec, trial_spec
from configs.spec.compatibility import find_incompatibilities
from configs.spec.detector import Detector
from configs.spec.distillation import Method, MethodSpec
from configs.spec.references import NamedTeacher
from configs.spec.run import RunSpec
from configs.spec.sweep import Values
from configs.suggestions import ask_did_you_mean
from service.domain.autopilot.history import Arm, RunLaunch
from service.domain.autopilot.request import AutopilotRequest, MethodOption

WEIGHT_FACTORS: Final = (1.0, 0.25, 4.0)
"""Of the published weights, which come first for all methods; sensitivities are small."""


@dataclass(frozen=True)
class MethodChoice:
    """The methods that an autopilot can screen."""

    options: tuple[MethodOption, ...]
    refused: dict[str, str]
    """Why others do not fit the detectors, by name."""


def build_run_spec(base: RunSpec, request: AutopilotRequest, launch: RunLaunch) -> RunSpec:
    """The spec of a run that trains. Raises `SpecError` if its values do not fit together, and
    `ValueError` for a teacher that is only measured, which is an evaluation."""
    if launch.epochs == 0:
        raise ValueError(f"{launch.key} measures a teacher and trains nothing")
    fields: Values = {
        "schedule.epochs": launch.epochs,
        "evaluation.every_epochs": request.every_epochs,
        **launch.arm.values,
    }
    return trial_spec(_base_of(base, launch.arm), fields, seed=launch.seed)


def list_method_options(
    base: RunSpec, *, teacher: str, detector: Detector, names: Collection[str] = ()
) -> MethodChoice:
    """The methods of this package with their published weights, and with a quarter and four times
    of them, as far as they fit the student of `base` and the teacher's `detector`.

    Raises `ValueError` if one of `names`, if there are some, is no method of this package.
    """
    kinds = {kind.name(): kind for kind in get_args(Method)}
    for unknown in sorted(set(names) - kinds.keys()):
        advice = ask_did_you_mean(unknown, sorted(kinds)) or f"choose from {', '.join(kinds)}"
        raise ValueError(f"there is no method {unknown}: {advice}")
    options: list[MethodOption] = []
    refused: dict[str, str] = {}
    for factor in WEIGHT_FACTORS:
        for kind in (kinds[name] for name in kinds if not names or name in names):
            option = _scale_method(kind, factor)
            reason = _find_objection(base, option, teacher=teacher, detector=detector)
            if reason is None:
                options.append(option)
            else:
                refused[option.name] = reason
    return MethodChoice(tuple(options), refused)


def _base_of(base: RunSpec, arm: Arm) -> RunSpec:
    plain = baseline_spec(base)
    if arm.role != "distilled" or arm.teacher is None:
        return plain
    # Its values name the method, so the spec is valid again once they are in it.
    named = NamedTeacher(name=arm.teacher)
    return base.model_copy(update={"teacher": named, "distillation": plain.distillation})


def _scale_method(kind: type[MethodSpec], factor: float) -> MethodOption:
    weights: Values = {
        f"distillation.{name}": factor * kind.model_fields[name].default
        for name in kind.traits.terms
        if kind.model_fields[name].default
    }
    suffix = "" if factor == 1.0 else f"-x{factor:g}"
    return MethodOption(
        name=f"{kind.name()}{suffix}", values={"distillation.method": kind.name(), **weights}
    )


def _find_objection(
    base: RunSpec, option: MethodOption, *, teacher: str, detector: Detector
) -> str | None:
    arm = Arm(name=option.name, role="distilled", teacher=teacher, values=option.values)
    try:
        spec = trial_spec(_base_of(base, arm), option.values, seed=base.seed)
    except SpecError as error:
        return str(error)
    return next(_list_objections(spec, detector), None)


def _list_objections(spec: RunSpec, detector: Detector) -> Iterator[str]:
    for objection in find_incompatibilities(spec.student, detector, spec.distillation):
        if objection.severity == "error":
            yield objection.message
