"""What a person reads at a shell: the verdict when it is there, and why it is not."""

from collections.abc import Iterator

import pytest

from service.api.schemas.runs import RunRequest
from service.cli.comparisons import show_verdict
from service.cli.runs import _build_details, _show_plan
from service.client import TandemClient
from tests.support.factories import a_bckd_spec
from tests.support.service.baseline_pairs import (
    a_comparison,
    a_pair,
    a_trained_pair,
    end,
    make_report,
    start,
    train,
)
from tests.support.service.stage import Stage


@pytest.fixture
def client(stage: Stage) -> Iterator[TandemClient]:
    with TandemClient("http://localhost", transport=stage.transport) as made:
        yield made


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without the log, in one line."""
    lines = capsys.readouterr().out.splitlines()
    return " ".join(line for line in lines if "[info" not in line and "[warning" not in line)


def test_a_story_ends_with_the_verdict(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, twin_id = a_trained_pair(stage)
    make_report(stage, stage.run(run_id)["report_run_id"], a_comparison(run_id, twin_id))
    capsys.readouterr()

    show_verdict(client, run_id, timeout_s=0.0)

    assert "Distillation helps: +2.3 mAP [+1.1, +3.5]" in said(capsys)


@pytest.mark.parametrize(("pairs", "waits"), [(1, False), (2, True)])
def test_a_verdict_of_fewer_pairs_than_asked_for_is_waited_for(
    stage: Stage,
    client: TandemClient,
    capsys: pytest.CaptureFixture[str],
    pairs: int,
    waits: bool,
) -> None:
    run_id, twin_id = a_trained_pair(stage)
    make_report(stage, stage.run(run_id)["report_run_id"], a_comparison(run_id, twin_id))
    capsys.readouterr()

    show_verdict(client, run_id, pairs=pairs, timeout_s=0.0)

    printed = said(capsys)
    assert ("Waiting for the report" in printed) == waits
    assert "+2.3 mAP" in printed


def test_a_report_that_failed_is_not_waited_for(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = a_trained_pair(stage)
    report_id = stage.run(run_id)["report_run_id"]
    start(stage, report_id)
    end(stage, report_id, "failed", exit_code=1)
    capsys.readouterr()

    show_verdict(client, run_id, timeout_s=600.0)

    assert f"report {report_id} has failed" in said(capsys)


def test_a_report_that_compares_nothing_is_not_waited_for(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = a_trained_pair(stage)
    make_report(stage, stage.run(run_id)["report_run_id"])
    capsys.readouterr()

    show_verdict(client, run_id, timeout_s=600.0)

    assert f"see `tandem report {run_id}`" in said(capsys)


def test_patience_has_an_end(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = a_trained_pair(stage)
    capsys.readouterr()

    show_verdict(client, run_id, timeout_s=0.0)

    assert "no verdict yet" in said(capsys)


def test_show_has_the_baseline_the_verdict_and_what_seeds_do(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, twin_id = a_trained_pair(stage)
    other = stage.launch(spec=a_bckd_spec(seed=1))
    train(stage, other["id"], 0.32)
    make_report(stage, stage.run(run_id)["report_run_id"], a_comparison(run_id, twin_id))

    facts = _build_details(client.run(run_id), client.noise(run_id).noise)

    cells = {
        str(label): str(value)
        for label, value in zip(facts.columns[0].cells, facts.columns[1].cells, strict=True)
    }
    assert cells["[dim]baseline[/]"] == twin_id
    assert "Distillation helps" in cells["[dim]verdict[/]"]
    assert "measured on 2 runs" in cells["[dim]noise floor[/]"]


def test_a_plan_at_a_shell_names_the_baseline(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    _, twin_id = a_pair(stage)
    capsys.readouterr()

    _show_plan(client, RunRequest(spec=a_bckd_spec(distillation={"method": "pkd"})))

    assert f"existing run {twin_id} (queued)" in said(capsys)
