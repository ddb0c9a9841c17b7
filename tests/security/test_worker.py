"""A worker whose code somebody else wrote, with the token of its attempt."""

from typing import Any

import httpx
import pytest

from tests.support.service.access import send_request, submit_run_with_token
from tests.support.service.stage import ON_BOTH_DATABASES, Stage

OUT_OF_RANGE = ("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00")


def deliver_content(guarded: Stage, content: bytes) -> httpx.Response:
    run_id, file = submit_run_with_token(guarded)
    headers = {
        "Authorization": f"Bearer {file.read_text()}",
        "Content-Type": "application/json",
    }
    url = f"/v1/runs/{run_id}/attempts/1/deliveries"
    return guarded.http.post(url, content=content, headers=headers)


def test_a_delivery_has_as_many_values_as_500_records_need(guarded: Stage) -> None:
    answers = {
        count: deliver_content(guarded, b'{"first": 0, "records": [' + b"1," * count + b"1]}")
        for count in (60_000, 120_000)
    }

    assert (answers[60_000].status_code, answers[120_000].status_code) == (422, 413)
    assert answers[60_000].json()["errors"][-1]["message"] == "and 59951 more problems"


def test_a_delivery_is_larger_than_a_request_of_a_person(guarded: Stage) -> None:
    padding = b" " * 1_000_000

    response = deliver_content(guarded, b'{"first": 0, "records": []}' + padding)

    assert response.status_code == 200


def test_a_delivery_has_a_largest_size(guarded: Stage) -> None:
    response = deliver_content(guarded, b" " * 9_000_000)

    assert response.status_code == 413


def test_half_a_character_as_a_name_is_refused(guarded: Stage) -> None:
    response = deliver_content(guarded, b'{"first": 0, "records": [], "\\ud800": 1}')

    assert response.status_code == 400


@pytest.mark.parametrize("number", ["0", "1000000", "9" * 300, "9" * 4301, "x"])
def test_the_number_of_an_attempt_has_six_digits(stage: Stage, number: str) -> None:
    run_id, _ = submit_run_with_token(stage)
    path = f"/v1/runs/{run_id}/attempts/{number}"

    answers = [
        stage.http.post(f"{path}/log", content=b"x"),
        stage.http.post(f"{path}/deliveries", json={"first": 0, "records": []}),
    ]

    assert [response.status_code for response in answers] == [422, 422]


@ON_BOTH_DATABASES
@pytest.mark.parametrize("at", OUT_OF_RANGE)
def test_a_time_that_utc_does_not_have_is_refused(stage: Stage, at: str) -> None:
    run_id, _ = submit_run_with_token(stage)
    record: dict[str, Any] = {"kind": "note", "at": at, "attempt": 1, "text": "x"}

    answers = [
        send_request(
            stage,
            "POST",
            f"/v1/runs/{run_id}/attempts/1/deliveries",
            None,
            json={"first": 0, "records": [record]},
        ),
        send_request(stage, "POST", "/v1/tokens", None, json={"name": "x", "expires_at": at}),
    ]

    assert [response.status_code for response in answers] == [422, 422]
