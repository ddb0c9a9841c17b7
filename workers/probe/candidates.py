"""Which values of a space show whether a parameter moves anything: decided from the spec alone."""

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
    """A parameter's values, each with the others as in the base."""

    specs: dict[Scalar, RunSpec]
    error: str
    """Why a value is not among them; empty: nothing is said against any."""


def build_candidate_specs(
    space: Space, path: str, *, base: RunSpec, probe: Probe
) -> CandidateSpecs:
    """The base with a parameter at its extremes; where one cannot be, with what is between them."""
    specs: dict[Scalar, RunSpec] = {}
    objection = ""
    for value in candidate_values(space[path]):
        if len(specs) == 2 and not isinstance(space[path], Choice):
            break
        try:
            specs[value] = _variant(space, path, value, base=base, probe=probe)
        except SpecError as error:
            objection = str(error)
    return CandidateSpecs(specs, objection)


def candidate_values(parameter: Parameter) -> tuple[Scalar, ...]:
    """Low, high and the middle of a range; all values of a choice."""
    if isinstance(parameter, Choice):
        return parameter.values
    low, high = parameter.low, parameter.high
    middle = (low + high) // 2 if isinstance(low, int) else (low + high) / 2
    return (low, high, middle)


def values_with_parents(space: Space, path: str, value: Scalar, *, base: RunSpec) -> Values:
    """The value, and values of others with which the parameter exists: the base's if they do."""
    values: Values = {path: value}
    waiting = [path]
    while waiting:
        for parent, allowed in _parents(space, waiting.pop()):
            if parent not in values:
                values[parent] = _chosen(allowed, now=_field(base, parent))
                waiting.append(parent)
    return values


def _variant(space: Space, path: str, value: Scalar, *, base: RunSpec, probe: Probe) -> RunSpec:
    values = values_with_parents(space, path, value, base=base)
    try:
        return trial_spec(base, values, seed=base.seed, probe=probe)
    except SpecError:
        # Another kind may have fields without which it cannot be, and the space has their values.
        completed = _completed(space, values)
        if completed == values:
            raise
        return trial_spec(base, completed, seed=base.seed, probe=probe)


def _parents(space: Space, path: str) -> Iterator[tuple[str, tuple[Scalar, ...]]]:
    yield from space[path].when.items()
    if path == BALANCE:
        yield RATIO, candidate_values(space[RATIO])


def _chosen(allowed: tuple[Scalar, ...], *, now: object) -> Scalar:
    return next((value for value in allowed if value == now), allowed[0])


def _field(spec: RunSpec, path: str) -> object:
    here: Any = spec.model_dump(mode="json")
    for name in path.split("."):
        here = here.get(name) if isinstance(here, dict) else None
    return here


def _completed(space: Space, values: Values) -> Values:
    """With the parameters that exist because of these values."""
    more = dict(values)
    for path, parameter in space.items():
        exists = all(more.get(parent) in allowed for parent, allowed in parameter.when.items())
        if path not in more and parameter.when and exists:
            more[path] = candidate_values(parameter)[0]
    return more
