"""Plans, launches, and lists sweeps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import JsonValue, ValidationError

from configs.problems import problems_from_validation
from configs.protocol.methods import MethodCatalog
from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from configs.spec.search import GridSearch
from configs.spec.sweep import SweepSpec
from service.domain.access import Caller
from service.domain.errors.base import FieldError
from service.domain.errors.requests import SpecRefused, SweepNotFound
from service.domain.estimates import RunEstimate
from service.domain.ids import new_sweep_id
from service.domain.planning.findings import Finding, raise_for_errors
from service.domain.planning.methods import needs_catalog, pin_methods
from service.domain.planning.sweep_findings import grid_size, sweep_findings
from service.domain.repositories.sweeps import SweepFilter
from service.domain.sweeps import Sweep, SweepState, initial_state
from service.usecases.access import resolve_project
from service.usecases.context import Context
from service.usecases.idempotency import IdempotentLaunch
from service.usecases.methods import get_catalog
from service.usecases.projects import check_priority
from service.usecases.runs.plan import LaunchRun, parse_requested_spec, plan_spec

_FIELD_PREFIX = re.compile(
    r"(space|algorithm|scheduler|objectives|initial_points(?:\.\d+)?): (.+)", re.DOTALL
)
"""Messages of validators over several fields start with the invalid field."""


@dataclass(frozen=True)
class LaunchSweep:
    """Request to launch a sweep around a run."""

    base: LaunchRun
    search: dict[str, JsonValue] = field(default_factory=dict)
    """Every field of a `SweepSpec` except `base`."""

    name: str | None = None
    project: str | None = None
    """`None` selects the caller's project, or else the default project."""

    priority: int = 0
    digest: str = ""
    """Digest of the original request, to which an idempotency key is bound."""


@dataclass(frozen=True)
class SweepPlan:
    """Dry run of a sweep: its spec, findings and size."""

    spec: SweepSpec
    findings: tuple[Finding, ...]
    waiting_for: str | None
    """Description of the unfinished run that trains the teacher; `None` if there is none."""

    trials: int
    """Upper limit of the number of trials."""

    runs: int
    """Upper limit of the number of runs, over all repeats of the trials."""

    run_estimate: RunEstimate | None
    """The length of one run of the base spec; `None` without its dataset."""


def plan_sweep(request: LaunchSweep, *, caller: Caller, ctx: Context) -> SweepPlan:
    """Plan a requested sweep; `SpecRefused` for an invalid spec, findings for other problems."""
    project = resolve_project(request.project, caller=caller) or DEFAULT_PROJECT
    with ctx.store.transaction() as uow:
        check_priority(uow, request.priority, project=project, caller=caller)
    requested = parse_requested_spec(request.base)
    catalog = get_catalog(ctx=ctx) if needs_catalog(requested) else None
    spec = _parse_sweep_spec(request, requested, catalog)
    base = plan_spec(spec.base, caller=caller, ctx=ctx)
    trials = spec.budget.trials
    if isinstance(spec.algorithm, GridSearch):
        trials = min(trials, grid_size(spec.space, spec.algorithm.points))
    return SweepPlan(
        spec=spec,
        findings=(*base.findings, *sweep_findings(spec, catalog)),
        waiting_for=base.waiting_for,
        trials=trials,
        runs=trials * spec.repeats,
        run_estimate=base.estimate,
    )


def launch_sweep(
    request: LaunchSweep, *, key: str | None, caller: Caller, ctx: Context
) -> tuple[Sweep, bool]:
    """Launch a sweep, and return whether it is new: a repeated idempotency key returns its sweep.

    Raises `SpecRefused` for a plan with errors, and `IdempotencyKeyReused` for another request's
    key.
    """
    project = resolve_project(request.project, caller=caller) or DEFAULT_PROJECT
    launch = IdempotentLaunch(
        key,
        digest=request.digest,
        caller=caller,
        get=lambda uow, sweep_id: uow.sweeps.get(sweep_id),
    )
    if earlier := launch.find_earlier(ctx=ctx):
        return earlier, False
    plan = plan_sweep(request, caller=caller, ctx=ctx)
    raise_for_errors(plan.findings)
    now = ctx.clock.now()
    state = initial_state(plan.spec)
    sweep = Sweep(
        id=new_sweep_id(),
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
        if earlier := launch.lock_and_find_earlier(uow):
            return earlier, False
        uow.sweeps.add(sweep)
        launch.bind(uow, sweep.id)
    return sweep, True


def get_sweep(sweep_id: str, *, ctx: Context) -> Sweep:
    with ctx.store.snapshot() as uow:
        return uow.sweeps.get(sweep_id)


def list_sweeps(sweep_filter: SweepFilter, *, caller: Caller, ctx: Context) -> list[Sweep]:
    """A page of the sweeps that the caller may see, newest first."""
    sweep_filter = replace(
        sweep_filter, project=resolve_project(sweep_filter.project, caller=caller)
    )
    with ctx.store.snapshot() as uow:
        if sweep_filter.before is not None and not caller.can_see(
            uow.sweeps.get(sweep_filter.before).project
        ):
            raise SweepNotFound(sweep_filter.before)
        return uow.sweeps.page(sweep_filter)


def validate_sweep_spec(document: Mapping[str, object]) -> SweepSpec:
    """Parse a document as a `SweepSpec`; `SpecRefused` lists every invalid field."""
    try:
        return SweepSpec.model_validate(dict(document))
    except ValidationError as error:
        problems = problems_from_validation(error, document, SweepSpec)
        raise SpecRefused([_field_error(p.field, p.message) for p in problems]) from error


def _parse_sweep_spec(
    request: LaunchSweep, base: JobSpec, catalog: MethodCatalog | None
) -> SweepSpec:
    if catalog is not None and isinstance(base, RunSpec):
        base = pin_methods(base, catalog)
    return validate_sweep_spec({**request.search, "base": base})


def _field_error(name: str, message: str) -> FieldError:
    match = None if name else _FIELD_PREFIX.fullmatch(message)
    return (
        FieldError(name, "invalid", message)
        if match is None
        else FieldError(match[1], "invalid", match[2])
    )
