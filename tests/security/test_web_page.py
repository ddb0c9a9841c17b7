"""A page of another site in the browser of a user whose service has no access control."""

from pathlib import Path
from typing import Any

import pytest

from service.domain.vocabulary import Role
from tests.support.factories import make_spec
from tests.support.service.access import make_token
from tests.support.service.stage import Stage, open_stage

FOREIGN: dict[str, dict[str, str]] = {
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "another port of this machine": {"Sec-Fetch-Site": "same-site"},
    "an origin": {"Origin": "https://evil.example"},
    "the origin of another port": {"Origin": "http://localhost:5500"},
    "a sandboxed page": {"Origin": "null"},
    "an origin that cannot be parsed": {"Origin": "http://[::1"},
    "an own site and a foreign origin": {
        "Sec-Fetch-Site": "same-origin",
        "Origin": "https://evil.example",
    },
}
OWN: dict[str, dict[str, str]] = {
    "a program": {},
    "the page of the API": {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    "an older browser": {"Origin": "http://LOCALHOST"},
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_write_request_of_another_origin_is_refused(
    stage: Stage, headers: dict[str, str]
) -> None:
    stage.add_dataset()

    response = stage.http.post("/v1/runs", json={"spec": make_spec()}, headers=headers)

    assert response.status_code == 403
    assert response.json()["code"] == "cross_site_request"
    assert "TANDEM_AUTH=tokens" in response.json()["advice"]
    assert stage.http.get("/v1/runs").json()["items"] == []


def test_a_form_that_sends_plain_text_is_refused(stage: Stage) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}

    for path in ("/v1/runs/r1:cancel", "/v1/runs/r1/attempts/1/log"):
        assert stage.http.post(path, content=b"{}", headers=headers).status_code == 403


@pytest.mark.parametrize("headers", OWN.values(), ids=OWN.keys())
def test_own_pages_and_programs_are_served(stage: Stage, headers: dict[str, str]) -> None:
    stage.add_dataset()

    response: Any = stage.http.post("/v1/runs", json={"spec": make_spec()}, headers=headers)

    assert response.status_code == 201


def test_a_link_of_another_site_is_followed(stage: Stage) -> None:
    response = stage.http.get("/v1/runs", headers={"Sec-Fetch-Site": "cross-site"})

    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


def test_with_access_control_the_token_decides(tmp_path: Path) -> None:
    headers = {"Origin": "https://dashboard.example", "Sec-Fetch-Site": "cross-site"}
    with open_stage(tmp_path, auth="tokens") as guarded:
        token = make_token(guarded, "root", Role.ADMIN)

        refused = guarded.http.put("/v1/projects/ours", json={}, headers=headers)
        headers["Authorization"] = f"Bearer {token}"
        accepted = guarded.http.put("/v1/projects/ours", json={}, headers=headers)

    assert (refused.status_code, accepted.status_code) == (401, 200)
