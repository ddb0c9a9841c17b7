"""Selects the values that show whether a parameter has an effect, from the spec alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from configs.catalog import SpecError
from configs.derived_specs import trial_spec
from configs.protocol.probe import Probe
from configs.spec.run import RunSpec
from configs.spec.search import BALANCE, RATIO, Choice, Parameter, Scalar
from configs.spec.sweep import Space, Values


@dataclass(frozen=True)
class CandidateSpecs:
    """Specs by value of a parameter; other parameters are as in the base spec."""

    specs: dict[Scalar, RunSpec]
    error: str
    """Why the last rejected value has no valid spec; empty if all are valid."""


def build_candidate_specs(
    space: Space, path: str, *, base: RunSpec, probe: Probe
) -> CandidateSpecs:
    """Build specs with a parameter at its ends, or at its middle where an end is not valid."""
    specs: dict[Scalar, RunSpec] = {}
    last_error = ""
    for value in candidate_values(space[path]):
        if len(specs) == 2 and not isinstance(space[path], Choice):
            break
        try:
            specs[value] = _build_variant(space, path, value, base=base, probe=probe)
        except SpecError as error:
            last_error = str(error)
    return CandidateSpecs(specs, last_error)


def candidate_values(parameter: Parameter) -> tuple[Scalar, ...]:
    """Low end, high end and middle of a range, or all options of a choice."""
    if isinstance(parameter, Choice):
        return parameter.values
    low, high = parameter.low, parameter.high
    middle = (low + high) // 2 if isinstance(low, int) else (low + high) / 2
    return (low, high, middle)


def values_with_parents(space: Space, path: str, value: Scalar, *, base: RunSpec) -> Values:
    """The value and its parents' values that make it active, those of the base if possible."""
    values: Values = {path: value}
    pending = [path]
    while pending:
        for parent, allowed in _parents(space, pending.pop()):
            if parent not in values:
                values[parent] = _choose(allowed, current=_get_field(base, parent))
                pending.append(parent)
    return values


def _build_variant(
    space: Space, path: str, value: Scalar, *, base: RunSpec, probe: Probe
) -> RunSpec:
    values = values_with_parents(space, path, value, base=base)
    try:
        return trial_spec(base, values, seed=base.seed, probe=probe)
    except SpecError:
        # Another kind may have required fields, whose values are in the space.
        completed = _complete(space, values)
        if completed == values:
            raise
        return trial_spec(base, completed, seed=base.seed, probe=probe)


def _parents(space: Space, path: str) -> Iterator[tuple[str, tuple[Scalar, ...]]]:
    yield from space[path].when.items()
    if path == BALANCE:
        yield RATIO, candidate_values(space[RATIO])


def _choose(allowed: tuple[Scalar, ...], *, current: object) -> Scalar:
    return next((value for value in allowed if value == current), allowed[0])


def _get_field(spec: RunSpec, path: str) -> object:
    node: Any = spec.model_dump(mode="json")
    for name in path.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _complete(space: Space, values: Values) -> Values:
    """Add a value for each parameter that these values activate."""
    completed = dict(values)
    for path, parameter in space.items():
        exists = all(completed.get(parent) in allowed for parent, allowed in parameter.when.items())
        if path not in completed and parameter.when and exists:
            completed[path] = candidate_values(parameter)[0]
    return completed
