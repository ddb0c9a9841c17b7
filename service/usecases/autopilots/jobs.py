"""Runs of an autopilot: launched, continued and stopped as its history says."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from configs.spec.jobs import EvaluationData, EvaluationSpec, JobSpec
from configs.spec.references import NamedTeacher, RunTeacher
from configs.spec.run import RunSpec
from service.domain.autopilot.autopilots import Autopilot, AutopilotJob
from service.domain.autopilot.history import AutopilotHistory, RunLaunch, RunStop
from service.domain.autopilot.request import AutopilotRequest
from service.domain.autopilot.specs import build_run_spec
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import PackMembership, Run, transition
from service.domain.states import RunState
from service.usecases.context import Context
from service.usecases.runs.actions import cancel_in_transaction
from service.usecases.runs.enqueue import add_run, create_queued_run
from service.usecases.runs.transitions import record_transition

AUTOPILOT_ACTOR = "autopilot"
"""Actor of events about the runs of an autopilot."""

_TAG = "autopilot"

_PackKey = tuple[str, int, str | None]


def autopilot_tags(autopilot: Autopilot) -> dict[str, str]:
    """The tags of all of its runs."""
    return {**autopilot.spec.base.tags, _TAG: autopilot.id}


@dataclass(frozen=True)
class NewJob:
    """A run to enqueue for an autopilot."""

    key: str
    name: str
    spec: JobSpec
    pack_size: int = 1


def add_autopilot_job(uow: UnitOfWork, autopilot: Autopilot, job: NewJob, *, at: datetime) -> Run:
    """Enqueue a run of an autopilot; the caller holds the lock of `get_for_update`, and has called
    `runs.lock_inserts`."""
    queued = create_queued_run(
        job.spec,
        name=f"{autopilot.name}: {job.name}",
        project=autopilot.project,
        priority=autopilot.priority,
        at=at,
        preset=autopilot.preset if isinstance(job.spec, RunSpec) else None,
    )
    run = replace(queued, pack=PackMembership(size=job.pack_size))
    details = f"Launched as {job.key} of autopilot {autopilot.id}."
    stored = add_run(uow, run, actor=AUTOPILOT_ACTOR, details=details)
    uow.autopilots.add_job(autopilot.id, AutopilotJob(job.key, stored.id))
    return stored


def act_on_history(
    autopilot: Autopilot, request: AutopilotRequest, history: AutopilotHistory, *, ctx: Context
) -> None:
    """Launch, continue and stop what the history says and the database does not have yet.

    A service that was killed after it had stored decisions acts on them here. Raises `SpecError` if
    the values of an arm do not fit together.
    """
    outcomes = {outcome.key: outcome for outcome in history.outcomes}
    launches = [entry for entry in history.entries if isinstance(entry, RunLaunch)]
    stops = {entry.key: entry for entry in history.entries if isinstance(entry, RunStop)}
    new = [launch for launch in launches if launch.key not in {*outcomes, *stops}]
    live = {
        key: stop
        for key, stop in stops.items()
        if key in outcomes and outcomes[key].state in ("queued", "running")
    }
    if not new and not live:
        return
    now = ctx.clock.now()
    with ctx.queue_transaction() as uow:
        uow.runs.lock_inserts()
        current = uow.autopilots.get_for_update(autopilot.id)
        jobs = {job.key: job for job in uow.autopilots.jobs(autopilot.id)}
        if current.desired == "run":
            missing = [launch for launch in new if launch.key not in jobs]
            _launch(uow, current, request, missing, jobs=jobs, at=now)
        for key, stop in live.items():
            _stop(uow, jobs[key], stop, at=now)


def _launch(
    uow: UnitOfWork,
    autopilot: Autopilot,
    request: AutopilotRequest,
    launches: Sequence[RunLaunch],
    *,
    jobs: Mapping[str, AutopilotJob],
    at: datetime,
) -> None:
    sizes = Counter(map(_pack_key, launches))
    for launch in launches:
        if launch.continues is not None and launch.continues in jobs:
            _continue(uow, autopilot, launch, jobs[launch.continues], at=at)
            continue
        job = NewJob(
            launch.key,
            f"{launch.arm.name}, seed {launch.seed}",
            _build_spec(autopilot, request, launch, jobs=jobs),
            pack_size=min(request.pack_size, sizes[_pack_key(launch)]) if launch.epochs else 1,
        )
        add_autopilot_job(uow, autopilot, job, at=at)


def _pack_key(launch: RunLaunch) -> _PackKey:
    """Equal for runs that may train in one pack."""
    return launch.stage, launch.seed, launch.arm.student


def _build_spec(
    autopilot: Autopilot,
    request: AutopilotRequest,
    launch: RunLaunch,
    *,
    jobs: Mapping[str, AutopilotJob],
) -> JobSpec:
    tags = autopilot_tags(autopilot)
    base = autopilot.spec.base
    if launch.epochs == 0:
        return EvaluationSpec(
            model=NamedTeacher(name=launch.arm.teacher or launch.arm.name),
            data=EvaluationData(
                dataset=base.data.dataset,
                image_size=base.data.image_size,
                batch_size=base.evaluation.batch_size,
                images=base.evaluation.val_images,
                max_detections=base.evaluation.max_detections,
                num_workers=base.data.num_workers,
            ),
            resources=base.resources.model_copy(update={"processes": 1, "min_processes": None}),
            tags=tags,
        )
    spec = build_run_spec(base, request, launch)
    changes: dict[str, object] = {"tags": {**spec.tags, **tags}}
    run_id = _find_teacher_run(request, launch, jobs)
    if run_id is not None:
        changes["teacher"] = RunTeacher(run=run_id)
    return spec.model_copy(update=changes)


def _find_teacher_run(
    request: AutopilotRequest, launch: RunLaunch, jobs: Mapping[str, AutopilotJob]
) -> str | None:
    """The run that has trained the teacher of a distilled run. None for a registered one."""
    trained = {option.name for option in request.teachers if option.values}
    if launch.arm.role != "distilled" or launch.arm.teacher not in trained:
        return None
    key = f"teacher.{launch.arm.teacher}.{request.first_seed}"
    return jobs[key].run_id


def _continue(
    uow: UnitOfWork, autopilot: Autopilot, launch: RunLaunch, job: AutopilotJob, *, at: datetime
) -> None:
    """Queue a run that was stopped for the budget again, from its last checkpoint.

    One that still stops is queued later: this is called again.
    """
    run = uow.runs.get_for_update(job.run_id)
    if not run.is_over:
        return
    if run.state in (RunState.CANCELLED, RunState.FAILED):
        retries = replace(run.retries, consecutive_failures=0, not_before=None)
        updated = replace(run, desired="run", reason=None, message="", retries=retries)
        queued = transition(updated, RunState.QUEUED, at=at)
        details = "The budget of its autopilot was extended."
        record_transition(uow, run, queued, actor=AUTOPILOT_ACTOR, details=details)
    continued = AutopilotJob(launch.key, run.id, first_attempt=run.attempt + 1)
    uow.autopilots.add_job(autopilot.id, continued)


def _stop(uow: UnitOfWork, job: AutopilotJob, stop: RunStop, *, at: datetime) -> None:
    run = uow.runs.get_for_update(job.run_id)
    if not run.is_over:
        cancel_in_transaction(uow, run, actor=AUTOPILOT_ACTOR, reason=stop.message, at=at)
