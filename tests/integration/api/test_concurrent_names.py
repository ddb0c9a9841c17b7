"""Two requests that add the same new name at once: the second gets the first one's, or 409."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.scheduling.projects import Project
from service.store.database import Database
from tests.support.factories import (
    CLASSES,
    NO_HASH,
    make_detector_spec,
    make_manifest,
    write_checkpoint,
    write_dataset,
)
from tests.support.service.stage import ON_BOTH_DATABASES, Stage
from tests.support.waiting import wait_until


def send_during(
    stage: Stage, write: Callable[[UnitOfWork], None], send: Callable[[], httpx.Response]
) -> httpx.Response:
    """Send a request while another service process has written but not committed."""
    store = stage.ctx.store
    assert isinstance(store, Database)
    other = store.clone()
    with ThreadPoolExecutor(1) as pool:
        with other.transaction() as uow:
            write(uow)
            sent: Future[httpx.Response] = pool.submit(send)
            _wait_until_blocked(uow.runs._session, sent)
        response = sent.result()
    other.close()
    return response


def _wait_until_blocked(session: Session, sent: Future[httpx.Response]) -> None:
    """Wait until a request waits for this transaction, which SQLite does not show."""
    if session.get_bind().dialect.name == "sqlite":
        return
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    wait_until(lambda: sent.done() or bool(session.scalar(waiting)), timeout_s=60)


@ON_BOTH_DATABASES
def test_a_project_that_appears_meanwhile_is_replaced(stage: Stage) -> None:
    response = send_during(
        stage,
        lambda uow: uow.projects.put(Project("new", weight=2.0)),
        lambda: stage.http.put("/v1/projects/new", json={"weight": 3.0}),
    )

    assert (response.status_code, response.json()["weight"]) == (200, 3.0), response.text
    assert stage.http.get("/v1/projects/new").json()["weight"] == 3.0


@ON_BOTH_DATABASES
@pytest.mark.parametrize(("classes", "status"), [(CLASSES, 200), (("other",), 409)])
def test_a_dataset_that_appears_meanwhile_is_that_one_or_a_conflict(
    stage: Stage, classes: tuple[str, ...], status: int
) -> None:
    root = write_dataset(stage.home / "datasets" / "pets")
    digest = NO_HASH if status == 200 else "1" * 64
    manifest = make_manifest(classes=classes).model_copy(update={"digest": digest})
    dataset = RegisteredDataset("pets", root.resolve(), manifest, stage.clock.now())

    def write(uow: UnitOfWork) -> None:
        uow.registry.lock_inserts()
        uow.registry.put_dataset(dataset)

    response = send_during(
        stage, write, lambda: stage.http.post("/v1/datasets", json={"root": str(root)})
    )

    assert response.status_code == status, response.text


@ON_BOTH_DATABASES
@pytest.mark.parametrize(("classes", "status"), [(CLASSES, 200), (("other",), 409)])
def test_a_teacher_that_appears_meanwhile_is_that_one_or_a_conflict(
    stage: Stage, classes: tuple[str, ...], status: int
) -> None:
    checkpoint = write_checkpoint(stage.home / "teachers" / "big.pth")
    body: dict[str, Any] = {
        "name": "big",
        "checkpoint": str(checkpoint),
        "detector": make_detector_spec().model_dump(mode="json"),
        "classes": list(CLASSES),
    }
    teacher = RegisteredTeacher(
        name="big",
        checkpoint=Path(checkpoint),
        sha256=stage.ctx.files.sha256(checkpoint) or "",
        detector=make_detector_spec(),
        classes=classes,
        measured_map=None,
        source="",
        registered_at=stage.clock.now(),
    )

    def write(uow: UnitOfWork) -> None:
        uow.registry.lock_inserts()
        uow.registry.put_teacher(teacher)

    response = send_during(stage, write, lambda: stage.http.post("/v1/teachers", json=body))

    assert response.status_code == status, response.text
