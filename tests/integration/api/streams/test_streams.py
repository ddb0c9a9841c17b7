"""Streams over the API: bounded in number and time, ended with their token; one poll for all."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from service.api.streaming.admission import StreamLimits
from service.api.streaming.registry import create_streams
from service.domain.runs import Event
from service.domain.vocabulary import EventKind, Role
from service.store.access import SqlTokens
from service.store.events import SqlEvents
from tests.support.factories import make_spec
from tests.support.service.access import make_token, send_request
from tests.support.service.runs import submit_run
from tests.support.service.stage import Stage
from tests.support.waiting import wait_until

EVENTS = "/v1/events/stream"
SSE = {"Accept": "text/event-stream"}


def test_more_than_500_events_at_once_are_streamed_without_a_pause(stage: Stage) -> None:
    run_id = submit_run(stage)
    set_limits(stage, max_duration_s=30.0)
    add_events(stage, run_id, 1200)

    with ThreadPoolExecutor(1) as pool:
        streamed = pool.submit(stage.http.get, EVENTS, headers={"Last-Event-ID": "1"})
        wait_until(lambda: bool(stage.app.state.streams.events._subscriptions), timeout_s=20)
        add_events(stage, run_id, 1200)
        with stage.ctx.store.transaction() as uow:
            last_id = uow.events.last_id()
        wait_until(lambda: stage.app.state.streams.events._last_id == last_id, timeout_s=20)
        end_streams(stage)
        ids = list_ids(streamed.result())

    assert ids == list(range(2, last_id + 1))


def test_a_reconnected_stream_continues_behind_its_last_event(stage: Stage) -> None:
    run_id = submit_run(stage)
    set_limits(stage, max_duration_s=0.2)
    add_events(stage, run_id, 5)

    first = list_ids(stage.http.get(EVENTS, headers={"Last-Event-ID": "1"}))
    add_events(stage, run_id, 2)
    second = list_ids(stage.http.get(EVENTS, headers={"Last-Event-ID": str(first[-1])}))

    assert second == [first[-1] + 1, first[-1] + 2]


def test_a_stream_shows_only_its_run_or_project(stage: Stage) -> None:
    stage.add_dataset()
    own = stage.launch(spec=make_spec(), project="ours")["id"]
    other = stage.launch(spec=make_spec())["id"]
    set_limits(stage, max_duration_s=1.0)

    with ThreadPoolExecutor(2) as pool:
        streams = [
            pool.submit(stage.http.get, EVENTS, params=params)
            for params in ({"project": "ours"}, {"run": own})
        ]
        wait_until(lambda: len(stage.app.state.streams.events._subscriptions) == 2, timeout_s=20)
        add_events(stage, other, 2)
        add_events(stage, own, 2)
        texts = [stream.result().text for stream in streams]

    assert [text.count("event: note") for text in texts] == [2, 2]
    assert other not in "".join(texts)


@pytest.mark.parametrize("path", [EVENTS, "/v1/runs/{run_id}/logs?follow=true"])
def test_a_stream_ends_after_its_longest_duration(stage: Stage, path: str) -> None:
    run_id = submit_run(stage)
    set_limits(stage, max_duration_s=0.1)

    response = stage.http.get(path.format(run_id=run_id), headers=SSE)

    assert response.status_code == 200
    assert "event: end" not in response.text  # which would say that the run is over


@pytest.mark.parametrize("path", [EVENTS, "/v1/runs/{run_id}/logs?follow=true"])
def test_a_stream_ends_when_its_token_is_revoked_or_expires(guarded: Stage, path: str) -> None:
    run_id = submit_run(guarded)
    set_limits(guarded, max_duration_s=60.0)
    revoked = make_token(guarded, "revoked", Role.VIEWER)
    expiring = make_token(guarded, "expiring", Role.VIEWER, days=1)

    with ThreadPoolExecutor(2) as pool:
        streams = [
            pool.submit(send_request, guarded, "GET", path.format(run_id=run_id), token)
            for token in (revoked, expiring)
        ]
        wait_until(lambda: len(guarded.app.state.streams.admission._open) == 2, timeout_s=20)
        time.sleep(0.2)
        assert not any(stream.done() for stream in streams)
        guarded.http.delete(f"/v1/tokens/{revoked.split('_')[1]}")
        assert streams[0].result(timeout=10).status_code == 200
        assert not streams[1].done()
        guarded.clock.advance(2 * 86_400)
        assert streams[1].result(timeout=10).status_code == 200


def test_a_token_has_a_limited_number_of_streams(guarded: Stage) -> None:
    admin = make_token(guarded, "admin", Role.ADMIN)
    other = make_token(guarded, "other", Role.VIEWER)
    set_limits(guarded, max_duration_s=60.0, max_per_token=2)

    with ThreadPoolExecutor(3) as pool:
        streams = [pool.submit(send_request, guarded, "GET", EVENTS, admin) for _ in range(2)]
        wait_until(lambda: guarded.app.state.streams.admission._open.total() == 2, timeout_s=20)
        refused = send_request(guarded, "GET", EVENTS, admin)
        allowed = pool.submit(send_request, guarded, "GET", EVENTS, other)
        wait_until(lambda: guarded.app.state.streams.admission._open.total() == 3, timeout_s=20)
        end_streams(guarded)

    assert refused.status_code == 429
    assert refused.json()["code"] == "too_many_streams"
    assert int(refused.headers["Retry-After"]) > 0
    assert [stream.result().status_code for stream in (*streams, allowed)] == [200, 200, 200]
    assert not guarded.app.state.streams.admission._open


def test_idle_streams_share_one_poll(guarded: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    count_calls(monkeypatch, SqlEvents, "new", calls)
    count_calls(monkeypatch, SqlTokens, "get", calls)
    token = make_token(guarded, "watcher", Role.VIEWER)
    set_limits(guarded, max_duration_s=60.0, poll_interval_s=0.1, check_interval_s=0.2)

    with ThreadPoolExecutor(15) as pool:
        streams = [pool.submit(send_request, guarded, "GET", EVENTS, token) for _ in range(15)]
        wait_until(lambda: len(guarded.app.state.streams.events._subscriptions) == 15, timeout_s=20)
        calls.clear()
        time.sleep(1.0)
        counts = {name: calls.count(name) for name in ("new", "get")}
        end_streams(guarded)

    assert all(stream.result().status_code == 200 for stream in streams)
    assert 1 <= counts["new"] <= 11
    assert 1 <= counts["get"] <= 6


@pytest.mark.parametrize(
    ("path", "event_id"),
    [
        (EVENTS, "²".encode("latin-1")),
        (EVENTS, b"1" * 30),
        (EVENTS, b"-1"),
        ("/v1/runs/{run_id}/logs?follow=true", b"1"),
        ("/v1/runs/{run_id}/logs?follow=true", "²:1".encode("latin-1")),
    ],
)
def test_an_event_id_that_is_none_is_refused(stage: Stage, path: str, event_id: bytes) -> None:
    run_id = submit_run(stage)
    headers = [(b"Last-Event-ID", event_id)]

    response = stage.http.get(path.format(run_id=run_id), headers=httpx.Headers(headers))

    assert response.status_code == 400
    assert response.json()["code"] == "invalid_event_id"


def add_events(stage: Stage, run_id: str, number: int) -> None:
    with stage.ctx.store.transaction() as uow:
        for _ in range(number):
            uow.events.add(Event(run_id, stage.clock.now(), "test", EventKind.NOTE, ""))


def set_limits(
    stage: Stage,
    *,
    max_duration_s: float,
    max_per_token: int = 20,
    poll_interval_s: float = 0.02,
    check_interval_s: float = 0.05,
) -> None:
    limits = StreamLimits(
        max_per_token=max_per_token,
        max_duration_s=max_duration_s,
        check_interval_s=check_interval_s,
        poll_interval_s=poll_interval_s,
    )
    stage.app.state.streams = create_streams(stage.ctx, limits)


def end_streams(stage: Stage) -> None:
    """End the streams of events as a shutdown does."""
    for subscription in list(stage.app.state.streams.events._subscriptions):
        stage.transport._loop.call_soon_threadsafe(subscription.close)


def list_ids(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [int(line[4:]) for line in response.text.splitlines() if line.startswith("id: ")]


def count_calls(monkeypatch: pytest.MonkeyPatch, cls: type, method: str, calls: list[str]) -> None:
    original = getattr(cls, method)

    def call(self: object, *arguments: object, **options: object) -> object:
        calls.append(method)
        return original(self, *arguments, **options)

    monkeypatch.setattr(cls, method, call)
