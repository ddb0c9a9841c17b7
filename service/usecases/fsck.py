"""Do rows, Ray, MLflow and the disk agree? Each fault with what mends it, where something does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from configs.protocol.names import RunFile
from configs.protocol.records import Metrics
from configs.spec.run import RunSpec
from service.domain.errors import PathRefused, TrackerRefused, Unreachable
from service.domain.ports import FINAL_STATUS
from service.domain.runs import Attempt, Event, Run
from service.domain.states import ACTIVE, OVER, RunState
from service.usecases.attempts.records import take_rest_from_disk
from service.usecases.context import World


@dataclass(frozen=True)
class Fault:
    """Two places that do not agree."""

    kind: str
    about: str
    """The run, dataset, teacher or job."""

    what: str
    repair: str | None = None
    """What `mend` does; none: a person has to."""

    mend: Callable[[], None] | None = None


def faults_of(world: World) -> Iterator[Fault]:
    """Everything that does not agree; outside systems that do not answer are a fault, once."""
    with world.store.begin() as unit:
        runs = unit.runs.in_states(*RunState)
        attempts = {run.id: unit.attempts.of_run(run.id) for run in runs}
    yield from _link_faults(runs, world=world)
    for run in runs:
        yield from _row_faults(run, attempts[run.id], world=world)
        yield from _disk_faults(run, world=world)
    yield from _ray_faults(runs, attempts, world=world)
    yield from _mlflow_faults(runs, world=world)
    yield from _registry_faults(world=world)


def _row_faults(run: Run, attempts: list[Attempt], *, world: World) -> Iterator[Fault]:
    numbers = [attempt.number for attempt in attempts]
    if numbers != list(range(1, run.attempt + 1)):
        yield Fault("attempts", run.id, f"It is at attempt {run.attempt}, but has {numbers}.")
    for attempt in attempts:
        is_current = attempt.number == run.attempt and run.state in ACTIVE
        if attempt.ended_at is None and not is_current:
            yield Fault(
                "attempt_open",
                run.id,
                f"Attempt {attempt.number} has no end, and the run is {run.state}.",
                repair="The attempt ends now.",
                mend=partial(_close, attempt, world=world),
            )
    with world.store.begin() as unit:
        moves = [event for event in unit.events.of_run(run.id) if event.to_state is not None]
    if moves and moves[-1].to_state is not run.state:
        yield Fault(
            "state",
            run.id,
            f"It is {run.state}, but its last event says {moves[-1].to_state}.",
            repair="An event says so.",
            mend=partial(_say_state, run, moves[-1], world=world),
        )


def _link_faults(runs: list[Run], *, world: World) -> Iterator[Fault]:
    """Runs that name another one, as their baseline or report, that is not there."""
    known = {run.id for run in runs}
    for run in runs:
        if run.baseline_run_id is not None and run.baseline_run_id not in known:
            yield Fault(
                "baseline",
                run.id,
                f"Its baseline, run {run.baseline_run_id}, is not there: it is never compared.",
                repair="It has no baseline any more.",
                mend=partial(_forget_baseline, run, world=world),
            )
        if run.report_run_id is not None and run.report_run_id not in known:
            yield Fault(
                "report",
                run.id,
                f"Its report, run {run.report_run_id}, is not there.",
                repair="It has no report any more: another one may be made.",
                mend=partial(_forget_report, run, world=world),
            )


def _disk_faults(run: Run, *, world: World) -> Iterator[Fault]:
    records = world.files.spool_records(run.id, 0)
    if len(records) < run.spool_next:
        yield Fault(
            "spool_short",
            run.id,
            f"We took {run.spool_next} records, but its spool has {len(records)}: "
            "its folder was changed or lies elsewhere.",
        )
    elif len(records) > run.spool_next and run.state not in ACTIVE:
        yield Fault(
            "spool_left",
            run.id,
            f"{len(records) - run.spool_next} records of its spool were never taken.",
            repair="They are taken.",
            mend=partial(_take_rest, run, world=world),
        )
    said = [record for record in records[: run.spool_next] if isinstance(record, Metrics)]
    missing = _missing_points(run, said, world=world)
    if missing:
        yield Fault(
            "points",
            run.id,
            f"{missing} metric values of its spool are not in the database.",
            repair="They are put there.",
            mend=partial(_add_points, run, said, world=world),
        )
    if run.state is RunState.SUCCEEDED and isinstance(run.spec, RunSpec):
        for file in (RunFile.LAST, RunFile.BEST):
            if not world.files.has(world.files.run_dir(run.id) / file):
                yield Fault("checkpoint", run.id, f"It succeeded, but {file} is gone.")


def _ray_faults(
    runs: list[Run], attempts: dict[str, list[Attempt]], *, world: World
) -> Iterator[Fault]:
    try:
        jobs = world.cluster.jobs()
    except Unreachable as error:
        yield Fault("ray", "Ray", str(error))
        return
    active = {run.job_id: run for run in runs if run.state in ACTIVE}
    for job_id, run in active.items():
        job = jobs.get(job_id)
        if job is None or job.is_over:
            said = "does not know it" if job is None else f"says it has {job.state}"
            yield Fault(
                "job", run.id, f"It is {run.state}, but Ray {said}; the service finds out itself."
            )
    tries = [attempt for of_run in attempts.values() for attempt in of_run]
    ours = {attempt.pack_job or attempt.submission_id for attempt in tries}
    for job_id in sorted(ours & jobs.keys() - active.keys()):
        if not jobs[job_id].is_over:
            yield Fault(
                "orphan",
                job_id,
                "Its attempt is over, but its job lives.",
                repair="The job is stopped.",
                mend=partial(world.cluster.stop, job_id),
            )


def _mlflow_faults(runs: list[Run], *, world: World) -> Iterator[Fault]:
    for run in runs:
        if run.state not in OVER or run.mlflow_run_id is None or not run.mlflow_agrees:
            continue
        try:
            status = world.tracker.status(run.mlflow_run_id)
        except TrackerRefused:
            status = None
        except Unreachable as error:
            yield Fault("mlflow", "MLflow", str(error))
            return
        if status is None:
            what = f"MLflow has no run {run.mlflow_run_id}."
            yield Fault("mlflow_run", run.id, what)
        elif status != FINAL_STATUS[run.state]:
            yield Fault(
                "mlflow_status",
                run.id,
                f"It is {run.state}, but MLflow shows {status}.",
                repair="The service tells MLflow again.",
                mend=partial(_tell_again, run, world=world),
            )


def _registry_faults(*, world: World) -> Iterator[Fault]:
    with world.store.begin() as unit:
        datasets, teachers = unit.registry.datasets(), unit.registry.teachers()
    for dataset in datasets:
        try:
            found = world.files.manifest(dataset.root)
        except PathRefused as error:
            yield Fault("dataset", dataset.name, str(error))
            continue
        if found.digest != dataset.manifest.digest:
            yield Fault("dataset", dataset.name, f"{dataset.root} holds another dataset by now.")
    for teacher in teachers:
        sha256 = world.files.sha256(teacher.checkpoint)
        if sha256 is None:
            yield Fault("teacher", teacher.name, f"{teacher.checkpoint} is gone.")
        elif sha256 != teacher.sha256:
            yield Fault("teacher", teacher.name, f"{teacher.checkpoint} is another file by now.")


def _missing_points(run: Run, said: list[Metrics], *, world: World) -> int:
    with world.store.begin() as unit:
        have = {(point.key, point.step) for point in unit.points.of_run(run.id, key=None)}
    return len({(key, one.step) for one in said for key in one.values} - have)


def _forget_baseline(run: Run, *, world: World) -> None:
    with world.store.begin() as unit:
        unit.runs.save(replace(unit.runs.take(run.id), baseline_run_id=None))


def _forget_report(run: Run, *, world: World) -> None:
    with world.store.begin() as unit:
        unit.runs.save(replace(unit.runs.take(run.id), report_run_id=None))


def _close(attempt: Attempt, *, world: World) -> None:
    with world.store.begin() as unit:
        unit.attempts.save(replace(attempt, ended_at=world.clock.now()))


def _say_state(run: Run, last: Event, *, world: World) -> None:
    with world.store.begin() as unit:
        details = "Its last event said otherwise."
        now = world.clock.now()
        unit.events.add(
            Event(run.id, now, "fsck", "moved", details, last.to_state, run.state, run.reason)
        )


def _take_rest(run: Run, *, world: World) -> None:
    take_rest_from_disk(run.id, world=world)


def _add_points(run: Run, said: list[Metrics], *, world: World) -> None:
    with world.store.begin() as unit:
        unit.points.add(run.id, said)


def _tell_again(run: Run, *, world: World) -> None:
    with world.store.begin() as unit:
        current = unit.runs.take(run.id)
        unit.runs.save(replace(current, mlflow_agrees=False))
