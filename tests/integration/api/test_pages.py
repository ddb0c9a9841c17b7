"""Lists in pages: all items once and in order, whatever the size of a page."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from service.client import TandemClient
from service.domain.runs import Event
from service.domain.vocabulary import EventKind, Role
from service.usecases.access import create_token
from tests.support.service.runs import deliver, make_metrics, start_running_run
from tests.support.service.simulated_sweep import launch_sweep
from tests.support.service.stage import ON_BOTH_DATABASES, Stage


@ON_BOTH_DATABASES
def test_events_attempts_metrics_and_tokens(stage: Stage) -> None:
    run_id = start_running_run(stage)
    deliver(stage, run_id, [make_metrics(stage, step, loss=1.0, mAP=0.5) for step in range(1, 6)])
    with stage.ctx.store.transaction() as uow:
        (attempt,) = uow.attempts.of_run(run_id)
        for number in range(2, 6):
            job = f"{run_id}-a{number}"
            uow.attempts.add(replace(attempt, number=number, submission_id=job))
            uow.events.add(Event(run_id, stage.clock.now(), "test", EventKind.NOTE, job))
    for name in "abcde":
        create_token(name, role=Role.VIEWER, project=None, expires_at=None, ctx=stage.ctx)

    for path, get_key in LISTS.items():
        check_pages(stage, path.format(run_id=run_id), get_key)


LISTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "/v1/runs/{run_id}/events": lambda item: item["id"],
    "/v1/events": lambda item: item["id"],
    "/v1/runs/{run_id}/attempts": lambda item: item["number"],
    "/v1/runs/{run_id}/metrics": lambda item: (item["key"], item["step"]),
    "/v1/runs/{run_id}/metrics?key=train/loss": lambda item: item["step"],
    "/v1/tokens": lambda item: item["id"],
}


def test_trials(stage: Stage) -> None:
    sweep = launch_sweep(stage)
    stage.run_loops()
    stage.run_loops()
    sweep.finish_probe()
    for number in range(4):
        sweep.suggest(number)

    check_pages(stage, f"/v1/sweeps/{sweep.id}/trials", lambda item: item["number"])


def test_the_client_follows_the_pages(stage: Stage) -> None:
    run_id = start_running_run(stage)
    deliver(stage, run_id, [make_metrics(stage, step, loss=1.0) for step in range(1, 500)])
    for first in range(500, 2500, 500):
        records = [make_metrics(stage, step, loss=1.0) for step in range(first, first + 500)]
        deliver(stage, run_id, records, first=first - 1)
    with stage.ctx.store.transaction() as uow:
        for _ in range(250):
            uow.events.add(Event(run_id, stage.clock.now(), "test", EventKind.NOTE, ""))

    with TandemClient("http://localhost", transport=stage.transport) as client:
        steps = [value.step for value in client.metrics(run_id)]
        num_events = len(client.events(run_id))

    assert steps == list(range(1, 2500))
    assert num_events >= 250


@pytest.mark.parametrize(
    "query",
    [
        "metrics?cursor=x",
        f"metrics?cursor={10**22}/a",
        "metrics?limit=20000",
        f"events?cursor={10**22}",
        "events?cursor=x",
        f"attempts?cursor={10**22}",
        "attempts?limit=0",
    ],
)
def test_a_cursor_that_is_none_is_refused(stage: Stage, query: str) -> None:
    run_id = start_running_run(stage)

    assert stage.http.get(f"/v1/runs/{run_id}/{query}").status_code == 422


def check_pages(stage: Stage, path: str, get_key: Callable[[dict[str, Any]], Any]) -> None:
    complete = stage.http.get(path).json()
    keys = [get_key(item) for item in complete["items"]]
    assert len(set(keys)) == len(keys) >= 4, path
    assert complete["next_cursor"] is None
    for limit in (1, 2, len(keys)):
        pages = list(iter_pages(stage, path, limit))
        assert [get_key(item) for page in pages for item in page] == keys, path
        assert len(pages) == -(-len(keys) // limit)


def iter_pages(stage: Stage, path: str, limit: int) -> Iterator[list[dict[str, Any]]]:
    cursor = None
    while True:
        separator = "&" if "?" in path else "?"
        params = f"limit={limit}" + ("" if cursor is None else f"&cursor={cursor}")
        response = stage.http.get(f"{path}{separator}{params}")
        assert response.status_code == 200, response.text
        page = response.json()
        yield page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return
