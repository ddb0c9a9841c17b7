"""All distillation methods by name: ours and those of other installed packages.

A package adds a method by an entry point of the group `tandem.methods`. Only what is installed in
the worker's environment is loaded, never code from a request.
"""

from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError
from torch import nn

from configs.metric_keys import DISTILLATION_PREFIX, DISTILLATION_TERMS
from configs.problems import describe_validation
from configs.spec.active_methods import describe_missing_labels, methods_by_field
from configs.spec.distillation import Distillation, Method, MethodSpec
from configs.spec.installed_methods import InstalledMethod
from configs.spec.weights import is_weight_type
from workers.distillation.batch import DistillationBatch
from workers.distillation.methods.base import DistillationMethod, Terms
from workers.distillation.methods.release import read_release
from workers.errors import MethodMismatch

GROUP = "tandem.methods"


@lru_cache
def get_method(name: str) -> DistillationMethod[Any]:
    """Load an installed method. Raises `MethodMismatch` if there is none, or it is not sound."""
    return load_method(find_entry_point(name))


def find_entry_point(name: str) -> EntryPoint:
    """The entry point of a method. Raises `MethodMismatch` if there is not exactly one."""
    points = entry_points(group=GROUP, name=name)
    packages = [point.dist.name for point in points if point.dist is not None]
    if len(packages) > 1:
        raise MethodMismatch(
            f"{' and '.join(packages)} both have a method {name!r}; uninstall one of them."
        )
    if not points:
        raise MethodMismatch(
            f"No package in this environment has a distillation method {name!r}; install it where "
            "the workers run. (After an update of Tandem itself, `make setup` registers its own.)"
        )
    return next(iter(points))


def load_method(point: EntryPoint) -> DistillationMethod[Any]:
    """Load the method of an entry point. Raises `MethodMismatch` if it breaks a rule."""
    try:
        method_type = point.load()
    except Exception as error:  # whatever another package's import may raise
        raise MethodMismatch(f"Method {point.name!r} cannot be imported: {error!r}") from error
    if not (isinstance(method_type, type) and issubclass(method_type, DistillationMethod)):
        raise MethodMismatch(f"{point.value} is no subclass of DistillationMethod.")
    method = method_type()
    if reason := _find_broken_rule(method, name=point.name):
        raise MethodMismatch(f"Method {point.name!r} of {point.value}: {reason}")
    return method


def resolve_methods(distillation: Distillation) -> dict[str, MethodSpec]:
    """The specs of all active methods, by the dotted field that holds their fields.

    Those of other packages are validated by their own classes.

    Raises `MethodMismatch` for a method that is not installed, has another release than the run
    was launched with, or does not accept its fields, and for two with a loss term of one name.
    """
    methods = methods_by_field(distillation)
    specs = {field: resolve_method(method) for field, method in methods.items()}
    _check_terms(specs.values())
    return specs


def resolve_method(method: Method | InstalledMethod) -> MethodSpec:
    """The spec of a method, as in `resolve_methods`."""
    if not isinstance(method, InstalledMethod):
        return method
    spec_type = get_method(method.name).spec_type
    release = read_release(find_entry_point(method.name), spec_type.traits)
    if method.release is not None and not method.release.has_same_code(release):
        raise MethodMismatch(
            f"The run was launched with version {method.release.version} of {method.name} "
            f"(digest {method.release.digest[:12]}), and this worker has version "
            f"{release.version} (digest {release.digest[:12]}): install the former again to "
            "continue the run, or launch it anew with the latter."
        )
    try:
        return spec_type.model_validate({**method.fields, "method": method.name})
    except ValidationError as error:
        problems = describe_validation(error, spec_type, method.fields)
        raise MethodMismatch(f"{method.name} refuses its fields: {problems}") from error


def check_no_labels_needed(specs: Iterable[MethodSpec]) -> None:
    """Raise `MethodMismatch` for a method that cannot be used with images without labels."""
    for spec in specs:
        if spec.traits.needs_labels:
            raise MethodMismatch(f"{describe_missing_labels(spec.method)}.")


def compute_terms(spec: MethodSpec, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
    """Compute the loss terms of one method. Terms with weight 0 are not computed at all."""
    return compute_method_terms(get_method(spec.method), spec, batch, adapters)


def compute_method_terms(
    method: DistillationMethod[Any],
    spec: MethodSpec,
    batch: DistillationBatch,
    adapters: nn.ModuleDict,
) -> Terms:
    """As `compute_terms`, of a method that need not be installed."""
    terms: Terms = method.terms(spec, batch, adapters)
    declared = {f"loss_{term}" for term in spec.traits.terms.values()}
    if undeclared := terms.keys() - declared:
        raise MethodMismatch(
            f"{spec.method} computes {', '.join(sorted(undeclared))}, which its traits do not name."
        )
    return terms


def build_adapters(specs: Iterable[MethodSpec], student: Any, teacher: Any) -> nn.ModuleDict:
    """Build the adapters of all methods.

    They are trained with the student and are not exported.
    """
    adapters = nn.ModuleDict()
    for spec in specs:
        built = get_method(spec.method).build_adapters(spec, student, teacher)
        if foreign := [name for name in built if not _belongs_to(name, spec.method)]:
            raise MethodMismatch(
                f"Names of {spec.method}'s adapters begin with {spec.method}, not as {foreign[0]}."
            )
        if shared := adapters.keys() & built.keys():
            raise MethodMismatch(
                f"{spec.method} and another method of the run both have an adapter {min(shared)}; "
                "leave one of them out."
            )
        adapters.update(built)
    return adapters


def _check_terms(specs: Iterable[MethodSpec]) -> None:
    owners: dict[str, str] = {}
    for spec in specs:
        for term in spec.traits.terms.values():
            if owners.setdefault(term, spec.method) != spec.method:
                raise MethodMismatch(
                    f"{owners[term]} and {spec.method} both have a loss term {term}; leave one of "
                    "them out."
                )


def _find_broken_rule(method: DistillationMethod[Any], *, name: str) -> str | None:
    spec_type = method.spec_type
    if spec_type.name() != name:
        return f"its spec's method is {spec_type.name()!r}, unlike its entry point."
    for weight, term in spec_type.traits.terms.items():
        if weight not in spec_type.model_fields:
            return f"traits.terms names the weight {weight!r}, and the spec has no such field."
        own = term.removeprefix(DISTILLATION_PREFIX)
        if term not in DISTILLATION_TERMS and (own == term or not _belongs_to(own, name)):
            return f"its loss term {term!r} has to begin with {DISTILLATION_PREFIX}{name}."
    for field, info in spec_type.model_fields.items():
        if is_weight_type(info.annotation) and field not in spec_type.traits.terms:
            return f"traits.terms does not name the loss term of its weight {field!r}."
    return None


def _belongs_to(text: str, name: str) -> bool:
    return text == name or text.startswith(f"{name}_")
