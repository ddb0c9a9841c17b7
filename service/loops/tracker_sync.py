"""What is over for us is over for MLflow too, and has all of its numbers there."""

from dataclasses import replace
from functools import partial

import structlog

from service.domain.errors import TrackerRefused
from service.domain.ports import FINAL_STATUS, Order
from service.domain.runs import Run
from service.loops.base import each, is_on_duty
from service.usecases.attempts.records import records_left
from service.usecases.context import World

_DUTY = "settle"
_MOST_SHIPMENTS = 5

log = structlog.get_logger(__name__)


def settle_finished(world: World) -> None:
    """Bring left records and the final status of every finished run to MLflow."""
    with world.store.begin() as unit:
        if not is_on_duty(unit, _DUTY, world=world):
            return
        unsettled = unit.runs.to_settle()
    each(unsettled, partial(_settle, world=world), loop="settle")


def _settle(run: Run, *, world: World) -> None:
    # Asked first: a shipment would be in vain while MLflow does not answer.
    found = world.tracker.find(run.id, project=run.project)
    left = records_left(run, world=world)
    if left == 0 or _have_shipped(run, world=world):
        _set_status(run, mlflow_run_id=run.mlflow_run_id or found, left=left, world=world)


def _set_status(run: Run, *, mlflow_run_id: str | None, left: int, world: World) -> None:
    if mlflow_run_id is not None:
        at = run.finished_at or world.clock.now()
        try:
            world.tracker.set_status(mlflow_run_id, FINAL_STATUS[run.state], at=at)
        except TrackerRefused as error:
            log.warning("run.status_refused", run_id=run.id, why=str(error))
    with world.store.begin() as unit:
        current = unit.runs.take(run.id)
        settled = replace(
            current,
            mlflow_run_id=mlflow_run_id,
            mlflow_agrees=True,
            behind={**current.behind, "mlflow": left},
        )
        unit.runs.save(settled)


def _have_shipped(run: Run, *, world: World) -> bool:
    """Let a small job ship what the trainer could not; whether nothing more is to be hoped for.

    MLflow may go away under a shipment, so one that failed is followed by another.
    """
    for number in range(1, _MOST_SHIPMENTS + 1):
        submission_id = f"{run.submission_id}-ship{number}"
        job = world.cluster.look(submission_id)
        if job is None:
            _ship(run, submission_id, world=world)
            return False
        if not job.is_over or job.state == "succeeded":
            return job.is_over
    log.warning("run.records_left", run_id=run.id, shipments=_MOST_SHIPMENTS)
    return True


def _ship(run: Run, submission_id: str, *, world: World) -> None:
    folder = str(world.files.run_dir(run.id))
    command = ("tandem-worker", "ship", "--run-dir", folder)
    world.cluster.submit(
        Order(submission_id, command, num_cpus=1, num_gpus=0, metadata={"run_id": run.id})
    )
    log.info("run.shipping", run_id=run.id)
