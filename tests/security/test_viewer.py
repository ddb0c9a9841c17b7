"""A viewer who wants the service to work for him without end."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from configs.catalog import SpecError, apply_changes, load_preset
from service.api import request_body
from service.api.middleware.limits import MAX_BODY_BYTES
from tests.support.service.access import send_request
from tests.support.service.stage import Stage

PLAN = "/v1/runs:plan"


def send_plan(guarded: Stage, viewer: str, body: Any) -> httpx.Response:
    return send_request(guarded, "POST", PLAN, viewer, json=body)


def measure_cpu_s(action: Callable[[], object]) -> float:
    started_s = time.process_time()
    action()
    return time.process_time() - started_s


def test_changes_are_applied_in_linear_time() -> None:
    document = load_preset("quick/instant").document
    changes: dict[str, Any] = {f"x{number}": number for number in range(50_000)}

    assert measure_cpu_s(lambda: apply_changes(document, changes)) < 2.0


def test_changes_below_one_field_are_applied_in_linear_time() -> None:
    changes: dict[str, Any] = {f"tags.x{number}": number for number in range(50_000)}

    assert measure_cpu_s(lambda: apply_changes({"tags": {}}, changes)) < 2.0


def test_changes_leave_the_document_and_their_own_values_as_they_are() -> None:
    document: dict[str, Any] = {"a": {"b": 1}}
    changes: dict[str, Any] = {"a.c": 2, "d": {"e": 3}, "d.e": 4, "a.b": 5}

    changed = apply_changes(document, changes)

    assert changed == {"a": {"b": 5, "c": 2}, "d": {"e": 4}}
    assert document == {"a": {"b": 1}}
    assert changes["d"] == {"e": 3}


def test_a_path_of_many_fields_is_refused(guarded: Stage, viewer: str) -> None:
    path = ".".join("a" * 5000)

    with pytest.raises(SpecError):
        apply_changes({}, {path: 1})
    response = send_plan(guarded, viewer, {"preset": "quick/instant", "changes": {path: 1}})

    assert response.status_code == 422
    assert "at most 32 fields" in response.json()["detail"]


def test_a_body_is_refused_before_it_is_read_as_json(guarded: Stage, viewer: str) -> None:
    changes = {f"x{number}": 1 for number in range(100_000)}

    response = send_plan(guarded, viewer, {"preset": "quick/instant", "changes": changes})

    assert response.status_code == 413
    assert response.json()["code"] == "body_too_large"
    assert str(MAX_BODY_BYTES) in response.json()["detail"]


def test_a_body_of_many_values_is_refused(guarded: Stage, viewer: str) -> None:
    response = send_plan(guarded, viewer, {"preset": "a", "changes": {"x": [1] * 50_000}})

    assert response.status_code == 413
    assert "at most 20000 values" in response.json()["detail"]


def test_of_many_unknown_fields_the_first_are_explained(guarded: Stage, viewer: str) -> None:
    unknown = {f"x{number}": 1 for number in range(15_000)}
    in_changes = {"preset": "quick/instant", "changes": unknown}

    answers = [
        send_plan(guarded, viewer, body) for body in (unknown, {"spec": unknown}, in_changes)
    ]

    for response in answers:
        assert response.status_code == 422
        assert len(response.json()["errors"]) <= 51
        assert "more problems" in response.json()["errors"][-1]["message"]
        assert len(response.content) < 100_000


@pytest.mark.parametrize("length", [1_000, 200_000])
def test_a_long_unknown_name_is_compared_with_nothing(
    guarded: Stage, viewer: str, length: int
) -> None:
    bodies = ({"x" * length: 1}, {"spec": {"seed" * (length // 4): 1}}, {"preset": "x" * length})

    def send_all() -> None:
        for body in bodies:
            assert send_plan(guarded, viewer, body).status_code == 422

    assert measure_cpu_s(send_all) < 1.0


@pytest.mark.parametrize("depth", [100, 10_000])
def test_a_deep_body_is_refused(guarded: Stage, viewer: str, depth: int) -> None:
    content = b'{"preset": "a", "changes": {"b":' + b"[" * depth + b"]" * depth + b"}}"

    response = guarded.http.post(
        PLAN,
        content=content,
        headers={"Authorization": f"Bearer {viewer}", "Content-Type": "application/json"},
    )

    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("length", "is_on_loop"), [(10, True), (5_000, False)])
def test_a_long_body_is_parsed_in_another_thread_than_the_event_loop(
    guarded: Stage,
    viewer: str,
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    is_on_loop: bool,
) -> None:
    threads = []

    def load(content: bytes) -> Any:
        threads.append(threading.current_thread())
        return json.loads(content)

    monkeypatch.setattr(request_body, "load_json", load)

    send_plan(guarded, viewer, {"preset": "n" * length})

    assert [thread is guarded.transport.thread for thread in threads] == [is_on_loop]
