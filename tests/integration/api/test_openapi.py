"""Property-based tests of the API against its OpenAPI schema, with all checks enabled."""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.main import create_app
from service.settings import Settings
from service.stack.ports import choose_free_port
from tests.support.factories import write_dataset
from tests.support.service.service_process import start_service

EXAMPLES = int(os.environ.get("TANDEM_API_EXAMPLES", "2"))
WITHOUT_END = "/v1/events/stream"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """A running service with a dataset, without Ray and MLflow."""
    home, port = tmp_path_factory.mktemp("api"), choose_free_port()
    url = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANDEM_RATE_LIMIT", "100000000/minute")
        service = start_service(home, port)
    root = write_dataset(home / "datasets" / "pets")
    httpx.post(f"{url}/v1/datasets", json={"root": str(root)}).raise_for_status()
    yield schemathesis.openapi.from_url(f"{url}/openapi.json")
    service.terminate()
    service.wait()


def list_operations() -> list[tuple[str, str, GenerationMode]]:
    """Every operation, and once more with invalid input if it has any."""
    paths = create_app(Settings(), with_loops=False).openapi()["paths"]
    return [
        (method.upper(), path, mode)
        for path, methods in paths.items()
        for method, operation in methods.items()
        for mode in GenerationMode
        if path != WITHOUT_END and (mode.is_positive or can_be_invalid(operation))
    ]


def can_be_invalid(operation: dict[str, Any]) -> bool:
    """Whether not every input conforms: Hypothesis tries a thousand to find that all do."""
    is_any_string = [
        parameter["schema"] | {"title": ""} == {"type": "string", "title": ""}
        for parameter in operation.get("parameters", [])
    ]
    return "requestBody" in operation or not all(is_any_string)


@pytest.mark.parametrize(("method", "path", "mode"), list_operations())
def test_every_response_conforms_to_the_schema(
    api: BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    operation = api[path][method]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send_request(case: Case[Any]) -> None:
        if "follow" in (case.query or {}):
            case.query["follow"] = "false"  # else the response ends with the run
        # A well-formed spec may name missing things: 422, as for any other error of a spec.
        case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=30)

    send_request()
