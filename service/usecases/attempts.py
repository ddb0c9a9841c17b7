"""From a queued run to a job, and from a job's end to what follows."""

from dataclasses import replace
from pathlib import Path

from configs.spec import (
    DatasetFiles,
    FailureReason,
    NamedDataset,
    NamedTeacher,
    Outcome,
    RunFile,
    RunSpec,
    RunTeacher,
    TeacherFiles,
)
from service.domain.errors import DatasetNotFound, TeacherNotFound
from service.domain.policy import Job, after_attempt
from service.domain.ports import Order, Unit
from service.domain.runs import Event, Run, move
from service.domain.states import ACTIVE, RunState
from service.usecases.deliveries import take_rest_from_disk
from service.usecases.runs import classes_of_run
from service.usecases.world import World


def start_attempt(run_id: str, *, world: World) -> Run | None:
    """Make the next attempt of a queued run and submit it; none if the run is not queued any more.

    The attempt is in the database before its job is submitted, and the job's id follows from it: whoever
    finds an attempt without a job submits again and hits the same one.
    """
    with world.store.begin() as unit:
        run = unit.runs.get(run_id)
        if run.state is not RunState.QUEUED:
            return None
        resolved = _resolved(unit, run.spec, world=world)
    spec_file = world.files.run_dir(run_id) / RunFile.SPEC
    world.files.write(spec_file, resolved.model_dump_json(indent=2))
    now = world.clock.now()
    with world.store.begin() as unit:
        run = unit.runs.get(run_id)
        if run.state is not RunState.QUEUED:
            return None
        started = replace(
            move(run, RunState.STARTING, at=now),
            attempt=run.attempt + 1,
            pending_outcome=None,
            heard_at=None,
            reason=None,
            message="",
        )
        unit.runs.save(started)
        details = f"Attempt {started.attempt} as Ray job {started.submission_id}."
        unit.events.add(Event(run.id, now, "service", "moved", details, run.state, started.state))
    world.cluster.submit(order_of(started, world=world))
    return started


def order_of(run: Run, *, world: World) -> Order:
    """The job of a run's current attempt."""
    run_dir = world.files.run_dir(run.id)
    command = [
        "tandem-worker",
        "train",
        *("--spec", str(run_dir / RunFile.SPEC)),
        *("--run-dir", str(run_dir)),
        *("--run-id", run.id),
        *("--attempt", str(run.attempt)),
        *("--report-to", world.report_url),
        *("--mlflow", world.mlflow_url),
        *("--name", run.name),
    ]
    if run.preset is not None:
        command += ["--preset", run.preset]
    return Order(
        submission_id=run.submission_id,
        command=tuple(command),
        num_cpus=run.spec.resources.num_cpus,
        num_gpus=run.spec.resources.num_gpus,
        metadata={"run_id": run.id, "attempt": str(run.attempt), "name": run.name},
    )


def end_attempt(run: Run, job: Job | None, *, world: World) -> Run:
    """What becomes of a run whose job is over; records that were not delivered are taken first."""
    take_rest_from_disk(run.id, world=world)
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.runs.get(run.id)
        if current.attempt != run.attempt or current.state not in ACTIVE:
            return current
        said = current.pending_outcome
        outcome = None if said is None else Outcome.model_validate_json(said)
        verdict = after_attempt(current, job, outcome, max_attempts=world.rules.max_attempts)
        ended = replace(
            move(current, verdict.state, at=now),
            reason=verdict.reason,
            message=verdict.message,
            stop_asked_at=None,
        )
        unit.runs.save(ended)
        unit.events.add(
            Event(
                run.id,
                now,
                "service",
                "moved",
                verdict.message or f"Attempt {run.attempt} succeeded.",
                current.state,
                ended.state,
                verdict.reason,
            )
        )
        return ended


def fail_queued_run(run: Run, *, message: str, world: World) -> None:
    """End a run that can never start."""
    now = world.clock.now()
    reason = FailureReason.INVALID_SPEC
    with world.store.begin() as unit:
        current = unit.runs.get(run.id)
        if current.state is not RunState.QUEUED:
            return
        failed = replace(move(current, RunState.FAILED, at=now), reason=reason, message=message)
        unit.runs.save(failed)
        unit.events.add(
            Event(run.id, now, "service", "moved", message, current.state, failed.state, reason)
        )


def note_waiting(run: Run, *, why: str, world: World) -> None:
    """Say once why a run does not start."""
    if run.waiting_for == why:
        return
    now = world.clock.now()
    with world.store.begin() as unit:
        current = unit.runs.get(run.id)
        if current.state is not RunState.QUEUED:
            return
        unit.runs.save(replace(current, waiting_for=why))
        unit.events.add(Event(run.id, now, "service", "waiting", why))


def _resolved(unit: Unit, spec: RunSpec, *, world: World) -> RunSpec:
    """The spec with every name replaced by files, as the trainer wants it."""
    document = spec.model_copy(
        update={"data": spec.data.model_copy(update={"dataset": _dataset_files(unit, spec)})}
    )
    teacher = _teacher_files(unit, spec, world=world)
    return document if teacher is None else document.model_copy(update={"teacher": teacher})


def _dataset_files(unit: Unit, spec: RunSpec) -> DatasetFiles:
    reference = spec.data.dataset
    if isinstance(reference, DatasetFiles):
        return reference
    assert isinstance(reference, NamedDataset)
    dataset = unit.registry.dataset(reference.name)
    if dataset is None:
        raise DatasetNotFound(reference.name)
    return DatasetFiles(root=str(dataset.root), digest=dataset.manifest.digest)


def _teacher_files(unit: Unit, spec: RunSpec, *, world: World) -> TeacherFiles | None:
    reference = spec.teacher
    if isinstance(reference, NamedTeacher):
        teacher = unit.registry.teacher(reference.name)
        if teacher is None:
            raise TeacherNotFound(reference.name)
        return TeacherFiles(
            checkpoint=str(teacher.checkpoint),
            sha256=teacher.sha256,
            detector=teacher.detector,
            classes=teacher.classes,
        )
    if isinstance(reference, RunTeacher):
        return _files_of_teacher_run(unit, reference, world=world)
    return reference


def _files_of_teacher_run(unit: Unit, reference: RunTeacher, *, world: World) -> TeacherFiles:
    run = unit.runs.get(reference.run)
    classes = classes_of_run(unit, run)
    if classes is None:
        raise DatasetNotFound(run.spec.data.dataset.model_dump_json())
    return TeacherFiles(
        checkpoint=str(_checkpoint_of(world.files.run_dir(run.id), reference)),
        detector=run.spec.student,
        classes=classes,
    )


def _checkpoint_of(run_dir: Path, reference: RunTeacher) -> Path:
    return run_dir / (RunFile.BEST if reference.checkpoint == "best" else RunFile.LAST)
