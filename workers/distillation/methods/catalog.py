"""What this environment says of its distillation methods."""

from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from math import isclose
from typing import Any

from configs.protocol.methods import MethodCard, MethodCatalog
from configs.spec.distillation import MethodSpec
from configs.spec.installed_methods import MethodRelease
from workers.distillation.methods.base import DistillationMethod
from workers.distillation.methods.golden import GoldenCase
from workers.distillation.methods.registry import (
    GROUP,
    compute_method_terms,
    find_entry_point,
    get_method,
)
from workers.distillation.methods.release import is_own, read_release
from workers.errors import MethodMismatch

_TOLERANCE = 1e-5
"""Relative difference of a loss from that of a golden case."""


def build_catalog() -> MethodCatalog:
    """Load every method of another package; one that cannot be used becomes a problem."""
    cards, problems = [], []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if is_own(point):
            continue
        try:
            cards.append(_build_card(point, get_method(point.name).spec_type))
        except MethodMismatch as problem:
            problems.append(str(problem))
    return MethodCatalog(methods=tuple(cards), problems=tuple(dict.fromkeys(problems)))


def list_releases(specs: Iterable[MethodSpec]) -> dict[str, MethodRelease]:
    """The release of each method, by name: our own and those of other packages."""
    return {spec.method: read_release(find_entry_point(spec.method), spec.traits) for spec in specs}


def find_wrong_terms(method: DistillationMethod[Any]) -> Iterator[str]:
    """Yield each loss of a method that differs from its golden cases by more than 1e-5."""
    for case in method.golden_cases():
        actual = _sum_terms(method, case)
        for term in sorted(actual.keys() | case.expected.keys()):
            value, expected = actual.get(term), case.expected.get(term)
            if (
                value is None
                or expected is None
                or not isclose(value, expected, rel_tol=_TOLERANCE)
            ):
                yield f"{term} is {value}, expected {expected}"


def _sum_terms(method: DistillationMethod[Any], case: GoldenCase) -> dict[str, float]:
    terms = compute_method_terms(method, case.spec, case.batch, case.adapters)
    return {name: float(sum(level.detach() for level in levels)) for name, levels in terms.items()}


def _build_card(point: EntryPoint, spec_type: type[MethodSpec]) -> MethodCard:
    schema = spec_type.model_json_schema()
    schema["properties"].pop("method")
    return MethodCard(
        name=point.name,
        title=spec_type.traits.title,
        package=package_of(point),
        release=read_release(point, spec_type.traits),
        terms=dict(spec_type.traits.terms),
        fields=schema,
    )


def package_of(point: EntryPoint) -> str:
    """The name of the distribution that has an entry point."""
    return "" if point.dist is None else point.dist.name
