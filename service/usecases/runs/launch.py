"""Launches runs."""

from dataclasses import dataclass
from typing import NamedTuple

from configs.spec.base import Task
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.access import Caller, RequestOutcome
from service.domain.baselines import baseline_digest, needs_baseline, with_digests
from service.domain.planning.findings import raise_for_errors
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.usecases.baselines.controls import add_controls
from service.usecases.baselines.lookup import BaselineLookup
from service.usecases.context import Context
from service.usecases.idempotency import IdempotentLaunch
from service.usecases.methods import pin_requested_methods
from service.usecases.projects import check_priority
from service.usecases.runs.enqueue import add_run, create_queued_run
from service.usecases.runs.outside_facts import look_outside
from service.usecases.runs.plan import (
    LaunchRun,
    PlanOptions,
    check_spec,
    make_plan_options,
    parse_requested_spec,
)

_OK, _CREATED = 200, 201

_DEFAULT_NAMES: dict[Task, str] = {
    "train": "run",
    "evaluate": "evaluation",
    "export": "export",
    "probe": "probe",
    "report": "report",
}


class LaunchedRun(NamedTuple):
    """The run of a launch, which is not new if an equal request with its key launched it before."""

    run: Run
    is_new: bool

    @property
    def outcome(self) -> RequestOutcome:
        """How the request will be answered."""
        return RequestOutcome(_CREATED if self.is_new else _OK, self.run.id)


def launch_run(request: LaunchRun, *, key: str | None, caller: Caller, ctx: Context) -> LaunchedRun:
    """Queue a run; a repeated idempotency key returns the run that it launched.

    A distilled run is launched with its baseline unless the request disables that, and with the
    controls that it asks for. Raises
    `SpecRefused` for a plan with errors, and `IdempotencyKeyReused` for another request's key.
    """
    options = make_plan_options(request, caller=caller)
    launch = IdempotentLaunch(
        key, digest=request.digest, caller=caller, get=lambda uow, run_id: uow.runs.get(run_id)
    )
    if earlier := launch.find_earlier(ctx=ctx):
        return LaunchedRun(earlier, is_new=False)
    spec = pin_requested_methods(parse_requested_spec(request), ctx=ctx)
    outside = look_outside(spec, ctx=ctx)
    run = create_queued_run(
        spec,
        name=request.name or request.preset or _DEFAULT_NAMES[request.task],
        project=options.project,
        priority=request.priority,
        at=ctx.clock.now(),
        preset=request.preset,
    )
    with ctx.store.snapshot() as uow:
        check_priority(uow, request.priority, project=options.project, caller=caller)
        plan, dataset_digest = check_spec(uow, spec, options, outside=outside, caller=caller)
    raise_for_errors(plan.findings)
    new_run, baseline = run, _Baseline.prepare(spec, options, dataset_digest=dataset_digest)
    if dataset_digest is not None:
        new_run = with_digests(run, dataset_digest=dataset_digest)

    def store(uow: UnitOfWork) -> LaunchedRun:
        uow.runs.lock_inserts()
        if earlier := launch.lock_and_find_earlier(uow):
            return LaunchedRun(earlier, is_new=False)
        lookup = None if baseline is None else baseline.look_up(uow)
        stored = add_run(uow, new_run, actor=caller.name, lookup=lookup, is_packed=request.pack)
        if request.controls and dataset_digest is not None:
            add_controls(
                uow,
                stored,
                request.controls,
                dataset_digest=dataset_digest,
                actor=caller.name,
                at=stored.created_at,
            )
        launch.bind(uow, stored.id)
        return LaunchedRun(stored, is_new=True)

    launched = ctx.store.write_together(store)
    ctx.queue_changed.set()
    return launched


@dataclass(frozen=True)
class _Baseline:
    """The baseline that a run needs, digested before other launches have to wait."""

    dataset_digest: str
    spec_digest: str
    project: str

    @classmethod
    def prepare(
        cls, spec: JobSpec, options: PlanOptions, *, dataset_digest: str | None
    ) -> "_Baseline | None":
        """None if the run needs no baseline."""
        if not isinstance(spec, RunSpec) or dataset_digest is None:
            return None
        if not needs_baseline(spec, options.baseline):
            return None
        spec_digest = baseline_digest(spec, dataset_digest=dataset_digest)
        return cls(dataset_digest, spec_digest, options.project)

    def look_up(self, uow: UnitOfWork) -> BaselineLookup:
        reusable = uow.baselines.find_reusable(self.spec_digest, project=self.project)
        return BaselineLookup(self.dataset_digest, reusable)
