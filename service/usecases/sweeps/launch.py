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
from service.domain.errors import FieldError, IdempotencyKeyReused, SpecRefused, SweepNotFound
from service.domain.planning.findings import Finding
from service.domain.planning.sweep_findings import grid_size, sweep_findings
from service.domain.repositories.sweeps import SweepFilter
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.sweeps import Sweep, SweepState, initial_state
from service.usecases.access import resolve_project
from service.usecases.context import Context
from service.usecases.idempotency import scope_key
from service.usecases.runs.enqueue import random_id_suffix
from service.usecases.runs.plan import LaunchRun, parse_requested_spec, plan_spec

_SAID_FIRST = re.compile(r"(space|algorithm|scheduler|objectives|first(?:\.\d+)?): (.+)", re.DOTALL)
"""How a rule over several fields begins: with the one that is wrong."""


@dataclass(frozen=True)
class LaunchSweep:
    """A run to search around, and how."""

    base: LaunchRun
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
    waiting_for: str | None
    """The run that trains its teacher, if that is not over."""

    trials: int
    """At most."""

    runs: int

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps it from being launched."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def plan_sweep(request: LaunchSweep, *, caller: Caller, ctx: Context) -> SweepPlan:
    """The dry run; `SpecRefused` if the spec itself is not valid, findings for everything else."""
    spec = _sweep_spec_of(request)
    base = plan_spec(spec.base, caller=caller, ctx=ctx)
    trials = spec.budget.trials
    if isinstance(spec.algorithm, GridSearch):
        trials = min(trials, grid_size(spec.space, spec.algorithm.points))
    return SweepPlan(
        spec=spec,
        findings=(*base.findings, *sweep_findings(spec)),
        waiting_for=base.waiting_for,
        trials=trials,
        runs=trials * spec.repeats,
    )


def launch_sweep(
    request: LaunchSweep, *, key: str | None, caller: Caller, ctx: Context
) -> tuple[Sweep, bool]:
    """Begin a sweep, and whether it is new: the same idempotency key gives the same sweep."""
    project = resolve_project(request.project, caller=caller) or DEFAULT_PROJECT
    if key is not None:
        with ctx.store.transaction() as uow:
            if earlier := _owner_of_key(uow, key, request, caller=caller):
                return earlier, False
    plan = plan_sweep(request, caller=caller, ctx=ctx)
    if plan.errors:
        raise SpecRefused([FieldError(f.field, f.code, f.message) for f in plan.errors])
    now = ctx.clock.now()
    state = initial_state(plan.spec)
    sweep = Sweep(
        id="s" + random_id_suffix(),
        name=request.name or f"sweep of {request.base.preset or 'a run'}",
        preset=request.base.preset,
        spec=plan.spec,
        state=state,
        created_at=now,
        updated_at=now,
        created_by=caller.name,
        project=project,
        priority=request.priority,
        searching_since=now if state is SweepState.SEARCHING else None,
    )
    with ctx.store.transaction() as uow:
        uow.sweeps.lock_inserts()
        if key is not None and (earlier := _owner_of_key(uow, key, request, caller=caller)):
            return earlier, False
        kept = None if key is None else scope_key(key, caller=caller)
        uow.sweeps.add(sweep, key=kept, digest=request.digest)
    return sweep, True


def get_sweep(sweep_id: str, *, ctx: Context) -> Sweep:
    """A sweep; `SweepNotFound` if there is none."""
    with ctx.store.transaction() as uow:
        return uow.sweeps.get(sweep_id)


def list_sweeps(sweep_filter: SweepFilter, *, caller: Caller, ctx: Context) -> list[Sweep]:
    """Sweeps that the caller may see, newest first."""
    sweep_filter = replace(
        sweep_filter, project=resolve_project(sweep_filter.project, caller=caller)
    )
    with ctx.store.transaction() as uow:
        if sweep_filter.before is not None and not caller.can_see(
            uow.sweeps.get(sweep_filter.before).project
        ):
            raise SweepNotFound(sweep_filter.before)
        return uow.sweeps.page(sweep_filter)


def validate_sweep_spec(document: Mapping[str, object]) -> SweepSpec:
    """A document as a `SweepSpec`; `SpecRefused` names every field that is wrong."""
    try:
        return SweepSpec.model_validate(dict(document))
    except ValidationError as error:
        problems = problems_from_validation(error, document)
        raise SpecRefused([_fault(p.field, p.message) for p in problems]) from error


def _sweep_spec_of(request: LaunchSweep) -> SweepSpec:
    base = parse_requested_spec(request.base)
    assert isinstance(base, RunSpec)
    return validate_sweep_spec({**request.search, "base": base})


def _fault(name: str, message: str) -> FieldError:
    found = None if name else _SAID_FIRST.fullmatch(message)
    return (
        FieldError(name, "invalid", message)
        if found is None
        else FieldError(found[1], "invalid", found[2])
    )


def _owner_of_key(
    uow: UnitOfWork, key: str, request: LaunchSweep, *, caller: Caller
) -> Sweep | None:
    owner = uow.sweeps.find_idempotency_key(scope_key(key, caller=caller))
    if owner is None:
        return None
    digest, sweep_id = owner
    if digest != request.digest:
        raise IdempotencyKeyReused(key)
    return uow.sweeps.get(sweep_id)
