"""Request bodies: their content type and syntax, and the examples of the documentation."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from service.main import create_app
from service.settings import Settings
from tests.support.autopilot.simulated import launch_autopilot
from tests.support.documents.service import LocalService
from tests.support.factories import write_checkpoint
from tests.support.service.simulated_sweep import (
    CLS,
    LOC,
    complete_sweep,
    start_search,
    train_trial,
)
from tests.support.service.stage import Stage

JSON = {"content-type": "application/json"}
BODY = b'{"preset": "quick/instant"}'


CONTENT_TYPES = {
    "curl's default": {"content-type": "application/x-www-form-urlencoded"},
    "text": {"content-type": "text/plain"},
    "a form": {"content-type": "multipart/form-data; boundary=x"},
    "no type at all": {"content-type": "nonsense"},
    "no header": {},
}
PATHS = ("/v1/runs", "/v1/sweeps", "/v1/evaluations", "/v1/datasets", "/v1/tokens")


def test_a_body_of_another_content_type_is_a_415_with_the_option_of_curl(stage: Stage) -> None:
    for headers, path in product(CONTENT_TYPES.values(), PATHS):
        response = stage.http.post(path, content=BODY, headers=headers)

        assert response.status_code == 415, (path, headers)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "body_not_json"
        assert "-H 'Content-Type: application/json'" in response.json()["advice"]


def test_every_kind_of_json_is_read(stage: Stage) -> None:
    for content_type in ("application/json; charset=utf-8", "application/merge-patch+json"):
        headers = {"content-type": content_type}
        response = stage.http.post("/v1/runs", content=BODY, headers=headers)

        assert response.json()["code"] == "spec_refused"  # it was read: its dataset is missing


SYNTAX_ERRORS = {
    b'{"preset": "a",}': "The body is not valid JSON: Expecting property name",
    b"{'preset': 'a'}": "enclosed in double quotes at character 2.",
    b"preset=a": "The body is not valid JSON: Expecting value at character 1.",
}


def test_a_syntax_error_is_shown_with_its_position(stage: Stage) -> None:
    for body, detail in SYNTAX_ERRORS.items():
        response = stage.http.post("/v1/runs", content=body, headers=JSON)

        assert response.status_code == 422
        assert detail in response.json()["detail"]
        assert "double quotes" in response.json()["advice"]


def test_a_missing_body_is_asked_for(stage: Stage) -> None:
    response = stage.http.post("/v1/runs")

    assert response.status_code == 422
    assert response.json()["detail"] == "the request needs a body, as JSON"


MISTAKES: tuple[tuple[str, str, Any, str], ...] = (
    ("POST", "/v1/runs", {"presett": "x"}, "presett: there is no such field; did you mean preset?"),
    ("POST", "/v1/runs", {"preset": "x", "name": ""}, "name: must not be empty"),
    ("POST", "/v1/runs", {"preset": 3}, "preset: needs a text, got 3"),
    ("POST", "/v1/runs", [], "needs fields, as in {name: value}"),
    ("POST", "/v1/evaluations", {"modl": {"name": "t"}}, "modl: there is no such field; did you"),
    ("POST", "/v1/tokens", {"name": "a", "role": "runer"}, "got 'runer'; did you mean runner?"),
    ("GET", "/v1/runs?statee=x", None, "statee: there is no such field; did you mean state?"),
    ("GET", "/v1/runs?state=runing", None, "got 'runing'; did you mean running?"),
    ("GET", "/v1/runs?limit=x", None, "limit: needs a whole number, got 'x'"),
)


def test_a_mistake_is_explained_without_the_words_of_the_validator(stage: Stage) -> None:
    for method, path, body, message in MISTAKES:
        response = stage.http.request(method, path, json=body)

        assert response.status_code == 422
        assert message in response.json()["detail"]
        for wording in ("Extra inputs", "Unable to extract", "Input should", "valid string"):
            assert wording not in response.text


@dataclass(frozen=True)
class RequestExample:
    """An example of the documentation, with its operation."""

    operation: str
    method: str
    path: str
    body: Any


@cache
def read_schema() -> dict[str, Any]:
    return create_app(Settings(), with_loops=False).openapi()


def read_examples() -> Iterator[RequestExample]:
    for path, methods in read_schema()["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            for example in content.get("application/json", {}).get("examples", {}).values():
                yield RequestExample(
                    operation["operationId"], method.upper(), path, example["value"]
                )


EXAMPLES = list(read_examples())


@pytest.fixture
def local_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalService]:
    """A service with what `tandem up` and `make demo` provide, in the folder of the examples."""
    monkeypatch.setenv("HOME", str(tmp_path))
    service = LocalService(tmp_path / ".tandem", monkeypatch)
    service.register_digits("digits-tiny")
    yield service
    service.stop()


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=[f"{e.operation}-{i}" for i, e in enumerate(EXAMPLES)]
)
def test_an_example_of_the_documentation_is_accepted(
    local_service: LocalService, example: RequestExample
) -> None:
    path = example.path.format_map(_PathValues(local_service.stage))
    if example.operation == "register_dataset":
        local_service.register_digits("cells")
    if example.operation == "register_teacher":
        write_checkpoint(local_service.home / "teachers" / "mine.pth")

    response = local_service.stage.http.request(example.method, path, json=example.body)

    assert response.is_success, response.text


class _PathValues(dict[str, str]):
    """Values of path parameters: a run, sweep or autopilot that the request makes sense for."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(name="mine")
        self._stage = stage

    def __missing__(self, parameter: str) -> str:
        if parameter == "run_id":
            return str(self._stage.launch(preset="digits/bckd")["id"])
        if parameter == "autopilot_id":
            autopilot = launch_autopilot(self._stage)
            autopilot.finish_probes()
            return autopilot.id
        assert parameter == "sweep_id"
        sweep = start_search(self._stage)
        train_trial(sweep, 0, 0.3, **{CLS: 1.0, LOC: 2})
        return complete_sweep(sweep).id


def test_the_first_example_launches_without_more_than_the_preset() -> None:
    first = next(example for example in EXAMPLES if example.operation == "launch_run")

    assert first.body == {"preset": "quick/instant"}


def test_every_body_has_an_example_and_a_415() -> None:
    operations = [
        operation
        for methods in read_schema()["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
    ]

    assert {operation["operationId"] for operation in operations} == {
        example.operation for example in EXAMPLES
    }
    assert all("415" in operation["responses"] for operation in operations)


def test_operation_ids_are_words_and_unique() -> None:
    ids = [
        operation["operationId"]
        for methods in read_schema()["paths"].values()
        for operation in methods.values()
    ]

    assert len(set(ids)) == len(ids)
    assert {"launch_run", "list_runs", "show_run", "launch_sweep", "show_sweep_report"} <= set(ids)
    for operation_id in ids:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation_id)
        assert "v1" not in operation_id
