"""The Python client: comparisons, and errors that can be read."""

from collections.abc import Iterator

import pytest

from tandem import NoComparison, RunRequest, ServiceUnreachable, TandemApiError, TandemClient
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.baseline_pairs import make_comparison, make_report, train_pair
from tests.support.service.stage import Stage


@pytest.fixture
def client(stage: Stage) -> Iterator[TandemClient]:
    with TandemClient("http://localhost", transport=stage.transport) as tandem_client:
        yield tandem_client


def test_a_comparison_has_gain_and_verdict(stage: Stage, client: TandemClient) -> None:
    run_id, baseline_id = train_pair(stage)
    make_report(stage, stage.run(run_id)["report_run_id"], make_comparison(run_id, baseline_id))

    comparison = client.compare(run_id, timeout_s=0)

    assert (comparison.verdict, comparison.difference) == ("helps", 0.023)
    assert "+2.3 mAP" in comparison.conclusion


def test_a_comparison_that_is_not_there_yet_is_waited_for(
    stage: Stage, client: TandemClient
) -> None:
    run_id, _ = train_pair(stage)

    with pytest.raises(TimeoutError, match=f"{run_id} is not compared after 0 s"):
        client.compare(run_id, timeout_s=0)


def test_a_run_without_baseline_will_not_be_compared(stage: Stage, client: TandemClient) -> None:
    stage.add_dataset()
    run = client.launch(RunRequest(spec=make_spec()))
    client.cancel(run.id)

    with pytest.raises(NoComparison, match=f"no comparison of run {run.id}"):
        client.compare(run.id, timeout_s=0)


def test_an_error_says_each_field_on_a_line_and_what_to_do(
    stage: Stage, client: TandemClient
) -> None:
    stage.add_dataset()
    spec = make_bckd_spec(teacher={"name": "huge"}, optimiser="sgd")

    with pytest.raises(TandemApiError) as exc_info:
        client.launch(RunRequest(spec=spec))

    title, field, advice = str(exc_info.value).splitlines()
    assert title == "The spec cannot run:"
    assert field.startswith("  optimiser: there is no such field; ")
    assert "POST /v1/runs:plan" in advice
    assert (exc_info.value.status, exc_info.value.code) == (422, "spec_refused")


def test_an_error_without_fields_is_one_line(client: TandemClient) -> None:
    with pytest.raises(TandemApiError) as exc_info:
        client.run("r1")

    assert str(exc_info.value) == "Not found: There is no run r1. `tandem runs` lists them."


def test_a_service_that_does_not_answer_is_named_with_its_address() -> None:
    with (
        TandemClient("http://127.0.0.1:9") as client,
        pytest.raises(ServiceUnreachable, match=r"http://127\.0\.0\.1:9\. Start it with `tandem"),
    ):
        client.runs()
