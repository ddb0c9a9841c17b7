"""Plan, launch, show and list sweeps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import JsonValue, ValidationError

from configs.catalog import problems_from_validation
from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.run import RunSpec
from configs.spec.search import GridSearch
from configs.spec.sweep import SweepSpec
from service.domain.access import Caller
from service.domain.errors import FieldFault, KeyReused, SpecRefused, SweepNotFound
from service.domain.planning.findings import Finding
from service.domain.planning.sweep_findings import grid_size, sweep_findings
from service.domain.repositories.sweeps import SweepFilter
from service.domain.repositories.unit_of_work import Unit
from service.domain.sweeps import Sweep, SweepState, first_state
from service.usecases.access import project_for
from service.usecases.context import World
from service.usecases.idempotency import key_as_kept
from service.usecases.runs.enqueue import random_letters
from service.usecases.runs.plan import Request, plan_spec, spec_of

_SAID_FIRST = re.compile(r"(space|algorithm|scheduler|objectives|first(?:\.\d+)?): (.+)", re.DOTALL)
"""How a rule over several fields begins: with the one that is wrong."""


@dataclass(frozen=True)
class SweepRequest:
    """A run to search around, and how."""

    base: Request
    search: dict[str, JsonValue] = field(default_factory=dict)
    """Every field of a `SweepSpec` but its base."""

    name: str | None = None
    project: str | None = None
    """None: the caller's own, else the default one."""

    priority: int = 0
    digest: str = ""
    """Of the request as it came: what an idempotency key is bound to."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that was not launched, and what was found."""

    spec: SweepSpec
    findings: tuple[Finding, ...]
    waits_for: str | None
    """The run that trains its teacher, if that is not over."""

    trials: int
    """At most."""

    runs: int

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps it from being launched."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def plan_sweep(request: SweepRequest, *, caller: Caller, world: World) -> SweepPlan:
    """The dry run; `SpecRefused` if the spec itself is not valid, findings for everything else."""
    spec = _sweep_spec_of(request)
    base = plan_spec(spec.base, caller=caller, world=world)
    trials = spec.budget.trials
    if isinstance(spec.algorithm, GridSearch):
        trials = min(trials, grid_size(spec.space, spec.algorithm.points))
    return SweepPlan(
        spec=spec,
        findings=(*base.findings, *sweep_findings(spec)),
        waits_for=base.waits_for,
        trials=trials,
        runs=trials * spec.repeats,
    )


def launch_sweep(
    request: SweepRequest, *, key: str | None, caller: Caller, world: World
) -> tuple[Sweep, bool]:
    """Begin a sweep, and whether it is new: the same idempotency key gives the same sweep."""
    project = project_for(request.project, caller=caller) or DEFAULT_PROJECT
    if key is not None:
        with world.store.begin() as unit:
            if earlier := _owner_of_key(unit, key, request, caller=caller):
                return earlier, False
    plan = plan_sweep(request, caller=caller, world=world)
    if plan.errors:
        raise SpecRefused([FieldFault(f.field, f.code, f.message) for f in plan.errors])
    now = world.clock.now()
    state = first_state(plan.spec)
    sweep = Sweep(
        id="s" + random_letters(),
        name=request.name or f"sweep of {request.base.preset or 'a run'}",
        preset=request.base.preset,
        spec=plan.spec,
        state=state,
        created_at=now,
        changed_at=now,
        created_by=caller.name,
        project=project,
        priority=request.priority,
        searching_since=now if state is SweepState.SEARCHING else None,
    )
    with world.store.begin() as unit:
        unit.sweeps.alone()
        if key is not None and (earlier := _owner_of_key(unit, key, request, caller=caller)):
            return earlier, False
        kept = None if key is None else key_as_kept(key, caller=caller)
        unit.sweeps.add(sweep, key=kept, digest=request.digest)
    return sweep, True


def show_sweep(sweep_id: str, *, world: World) -> Sweep:
    """A sweep; `SweepNotFound` if there is none."""
    with world.store.begin() as unit:
        return unit.sweeps.get(sweep_id)


def list_sweeps(which: SweepFilter, *, caller: Caller, world: World) -> list[Sweep]:
    """Sweeps that the caller may see, newest first."""
    which = replace(which, project=project_for(which.project, caller=caller))
    with world.store.begin() as unit:
        if which.before is not None and not caller.sees(unit.sweeps.get(which.before).project):
            raise SweepNotFound(which.before)
        return unit.sweeps.page(which)


def checked_spec(document: Mapping[str, object]) -> SweepSpec:
    """A document as a `SweepSpec`; `SpecRefused` names every field that is wrong."""
    try:
        return SweepSpec.model_validate(dict(document))
    except ValidationError as error:
        problems = problems_from_validation(error, document)
        raise SpecRefused([_fault(p.field, p.message) for p in problems]) from error


def _sweep_spec_of(request: SweepRequest) -> SweepSpec:
    base = spec_of(request.base)
    assert isinstance(base, RunSpec)
    return checked_spec({**request.search, "base": base})


def _fault(name: str, message: str) -> FieldFault:
    found = None if name else _SAID_FIRST.fullmatch(message)
    return (
        FieldFault(name, "invalid", message)
        if found is None
        else FieldFault(found[1], "invalid", found[2])
    )


def _owner_of_key(unit: Unit, key: str, request: SweepRequest, *, caller: Caller) -> Sweep | None:
    owner = unit.sweeps.key_owner(key_as_kept(key, caller=caller))
    if owner is None:
        return None
    digest, sweep_id = owner
    if digest != request.digest:
        raise KeyReused(key)
    return unit.sweeps.get(sweep_id)
