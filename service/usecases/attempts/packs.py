"""Runs that start, and are submitted again, as one job."""

from collections.abc import Sequence

from configs.protocol.names import Env
from configs.protocol.pack import PackMember, PackOrder
from service.domain.errors import JobRefused, NotFound
from service.domain.ports import Order
from service.domain.runs import Event, Run
from service.domain.states import RunState
from service.usecases.attempts.start import (
    begin_attempt,
    leave_seal,
    note_refusal,
    submit_attempt,
    write_spec_once,
)
from service.usecases.attempts.waiting import fail_queued_run
from service.usecases.context import World
from service.usecases.runs.enqueue import random_letters


def start_pack(runs: Sequence[Run], *, avoid: frozenset[str], world: World) -> None:
    """Make the next attempt of every run that is still queued, and submit one job for all.

    One that can never start fails alone.
    """
    job, started = f"p{random_letters()}", []
    ready = [run for run in runs if _has_spec(run, world=world)]
    now = world.clock.now()
    with world.store.begin() as unit:
        for run in ready:
            current = unit.runs.take(run.id)
            if current.state is RunState.QUEUED:
                begun = begin_attempt(unit, current, processes=1, at=now, pack_job=job)
                started.append(begun)
        for run in started:
            beside = ", ".join(other.id for other in started if other is not run) or "nobody"
            details = f"It trains side by side with {beside}."
            unit.events.add(Event(run.id, now, "queue", "packed", details))
    if started:
        submit_pack(job, avoid=avoid, world=world)


def submit_job(run: Run, *, world: World) -> None:
    """Submit the job of a run's current attempt, its own or its pack's."""
    if run.pack_job is None:
        submit_attempt(run, world=world)
    else:
        submit_pack(run.pack_job, world=world)


def submit_pack(job: str, *, avoid: frozenset[str] = frozenset(), world: World) -> None:
    """Submit a pack's job for those of its runs that go on; a refusal is told once, and raised."""
    with world.store.begin() as unit:
        members = unit.runs.of_pack(job)
    for run in members:
        leave_seal(run, world=world)
    try:
        world.cluster.submit(_order_of(job, members, avoid=avoid, world=world))
    except JobRefused as error:
        for run in members:
            note_refusal(run, why=str(error), world=world)
        raise


def _has_spec(run: Run, *, world: World) -> bool:
    try:
        write_spec_once(run, world=world)
    except NotFound as error:
        fail_queued_run(run, error, world=world)
        return False
    return True


def _order_of(job: str, runs: Sequence[Run], *, avoid: frozenset[str], world: World) -> Order:
    first = runs[0]
    order = PackOrder(
        id=job,
        members=tuple(_member(run, world=world) for run in runs),
        report_url=world.report_url,
        mlflow_url=world.mlflow_url,
        stall_after_s=world.rules.stall_after_s,
    )
    file = world.files.run_dir(first.id) / "packs" / f"{job}.json"
    world.files.write(file, order.model_dump_json(indent=2))
    asked = first.spec.resources
    return Order(
        submission_id=job,
        command=("tandem-worker", "train-pack", str(file)),
        num_cpus=asked.num_cpus,
        num_gpus=asked.num_gpus,
        metadata={"run_id": first.id, "pack": job, "name": f"a pack of {len(runs)}"},
        environment={Env.ATTEMPT: job},
        avoid=avoid,
    )


def _member(run: Run, *, world: World) -> PackMember:
    return PackMember(
        run_id=run.id,
        attempt=run.attempt,
        run_dir=str(world.files.run_dir(run.id)),
        name=run.name,
        preset=run.preset,
        project=run.project,
    )
