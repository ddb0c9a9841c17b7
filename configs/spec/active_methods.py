"""The active methods of a distillation, and their weights."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast, get_args

from configs.spec.distillation import (
    Bckd,
    Distillation,
    ExtraMethods,
    Method,
    MethodSpec,
    NoDistillation,
)
from configs.spec.installed_methods import InstalledMethod, Need
from configs.spec.weights import MovingWeight

_EXTRA = "distillation.extra"


def iter_methods(distillation: Distillation) -> Iterator[Method | InstalledMethod]:
    """All active methods: the chosen one and the extra ones."""
    yield from methods_by_field(distillation).values()


def method_name(method: Method | InstalledMethod) -> str:
    """The name of a method, whichever package it is from."""
    return method.name if isinstance(method, InstalledMethod) else method.method


def method_needs(method: Method | InstalledMethod) -> Collection[Need]:
    """What a method reads of both detectors; nothing for an installed one without its release."""
    if isinstance(method, InstalledMethod):
        return method.release.needs if method.release else ()
    return method.traits.needs


def needs_labels(method: Method | InstalledMethod) -> bool:
    """Whether a method is known to read the labels of a batch; an installed one says so by its
    release."""
    if isinstance(method, InstalledMethod):
        return method.release is not None and method.release.needs_labels
    return method.traits.needs_labels


def describe_missing_labels(name: str) -> str:
    """Why a method that needs labels cannot be used with images without them, and what can."""
    *names, last = (own.name() for own in get_args(Method) if not own.traits.needs_labels)
    return (
        f"{name} distills where labels say that an object is, which images of "
        f"data.unlabelled do not have; use {', '.join(names)} or {last} with them, or leave "
        "data.unlabelled out"
    )


def methods_by_field(distillation: Distillation) -> dict[str, Method | InstalledMethod]:
    """All active methods, by the dotted field of a run's spec that holds their fields."""
    if isinstance(distillation, NoDistillation):
        return {}
    if isinstance(distillation, InstalledMethod):
        return {"distillation.fields": distillation}
    by_field: dict[str, Method | InstalledMethod] = {"distillation": distillation}
    if isinstance(distillation, Bckd):
        extra = distillation.extra
        own = {name: getattr(extra, name) for name in ExtraMethods.model_fields}
        installed = own.pop("installed") or {}
        by_field |= {
            f"{_EXTRA}.{name}": method for name, method in own.items() if method is not None
        }
        by_field |= {_extra_field(name): method for name, method in installed.items()}
    return by_field


def installed_methods(distillation: Distillation) -> dict[str, InstalledMethod]:
    """The active methods of other packages, by the dotted field that holds their fields."""
    return {
        field: method
        for field, method in methods_by_field(distillation).items()
        if isinstance(method, InstalledMethod)
    }


def replace_installed(
    distillation: Distillation, methods: Mapping[str, InstalledMethod]
) -> Distillation:
    """A copy with other versions of `installed_methods`, by the same dotted fields."""
    if isinstance(distillation, InstalledMethod):
        return methods["distillation.fields"]
    if not methods or not isinstance(distillation, Bckd):
        return distillation
    names = distillation.extra.installed or {}
    installed = {name: methods[_extra_field(name)] for name in names}
    extra = distillation.extra.model_copy(update={"installed": installed})
    return distillation.model_copy(update={"extra": extra})


def own_methods(distillation: Distillation) -> dict[str, MethodSpec]:
    """The active methods whose fields are known here, by their dotted field in a run's spec."""
    return {
        field: method
        for field, method in methods_by_field(distillation).items()
        if not isinstance(method, InstalledMethod)
    }


def terms_by_weight(methods: Mapping[str, MethodSpec]) -> dict[str, str]:
    """The loss term of each weight, without `loss_`, by the weight's dotted field in a spec."""
    return {
        f"{field}.{weight}": term
        for field, method in methods.items()
        for weight, term in method.traits.terms.items()
    }


def has_weight(method: MethodSpec) -> bool:
    """Whether a method has a term, now or at another step: one whose weight is not 0."""
    return any(getattr(method, weight) for weight in method.traits.terms)


def moving_weights(methods: Mapping[str, MethodSpec]) -> dict[str, MovingWeight]:
    """The weights that are a schedule or a share, by their dotted field in a spec."""
    return {
        f"{field}.{name}": weight
        for field, method in methods.items()
        for name in method.traits.terms
        if isinstance(weight := getattr(method, name), MovingWeight)
    }


def set_method_weights(
    methods: Mapping[str, MethodSpec], weights: Mapping[str, float]
) -> dict[str, MethodSpec]:
    """Copies with numbers as weights, by their dotted field in a spec."""
    return {
        field: method.model_copy(update=_select_fields(weights, field))
        for field, method in methods.items()
    }


def set_weights(distillation: Distillation, weights: Mapping[str, float]) -> Distillation:
    """A copy with numbers as weights, by their dotted field in a spec."""
    installed = {
        field: method.model_copy(update={"fields": method.fields | _select_fields(weights, field)})
        for field, method in installed_methods(distillation).items()
    }
    replaced = replace_installed(distillation, installed)
    copies = set_method_weights(own_methods(replaced), weights)
    if not copies:
        return replaced
    main = copies.pop("distillation")
    if isinstance(main, Bckd) and copies:
        extra = {field.rpartition(".")[2]: method for field, method in copies.items()}
        main = main.model_copy(update={"extra": main.extra.model_copy(update=extra)})
    return cast("Method", main)


def _extra_field(name: str) -> str:
    return f"{_EXTRA}.installed.{name}.fields"


def _select_fields(weights: Mapping[str, float], field: str) -> dict[str, Any]:
    """The weights below a dotted field, by their name in it."""
    paths = {path: path.rpartition(".") for path in weights}
    return {name: weights[path] for path, (owner, _, name) in paths.items() if owner == field}
