"""Verdicts in the terminal, and the reason why there is none."""

import re
from collections.abc import Iterator

import pytest

from service.api.schemas.runs import RunRequest
from service.cli import console
from service.cli.comparisons import show_verdict
from service.cli.runs import _show_plan
from service.cli.views.run_details import build_details
from service.client import TandemClient
from tests.support.factories import make_bckd_spec
from tests.support.service.baseline_pairs import (
    end_job,
    launch_pair,
    make_comparison,
    make_report,
    start_attempt,
    train_pair,
    train_run,
)
from tests.support.service.stage import Stage


@pytest.fixture
def client(stage: Stage) -> Iterator[TandemClient]:
    with TandemClient("http://localhost", transport=stage.transport) as tandem_client:
        yield tandem_client


def read_output(capsys: pytest.CaptureFixture[str]) -> str:
    """Read the output without log lines, as one line."""
    lines = capsys.readouterr().out.splitlines()
    return " ".join(line for line in lines if "[info" not in line and "[warning" not in line)


def test_an_experiment_ends_with_the_verdict(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, baseline_id = train_pair(stage)
    make_report(stage, stage.run(run_id)["report_run_id"], make_comparison(run_id, baseline_id))
    capsys.readouterr()

    show_verdict(client, run_id, timeout_s=0.0)

    assert "Distillation helps: +2.3 mAP [+1.1, +3.5]" in read_output(capsys)


@pytest.mark.parametrize(("pairs", "waits"), [(1, False), (2, True)])
def test_a_verdict_of_fewer_pairs_than_asked_for_is_waited_for(
    stage: Stage,
    client: TandemClient,
    capsys: pytest.CaptureFixture[str],
    pairs: int,
    waits: bool,
) -> None:
    run_id, baseline_id = train_pair(stage)
    make_report(stage, stage.run(run_id)["report_run_id"], make_comparison(run_id, baseline_id))
    capsys.readouterr()

    show_verdict(client, run_id, pairs=pairs, timeout_s=0.0)

    printed = read_output(capsys)
    assert ("Waiting for the report" in printed) == waits
    assert "+2.3 mAP" in printed


def test_a_report_that_failed_is_not_waited_for(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = train_pair(stage)
    report_id = stage.run(run_id)["report_run_id"]
    start_attempt(stage, report_id)
    end_job(stage, report_id, "failed", exit_code=1)
    capsys.readouterr()

    show_verdict(client, run_id, timeout_s=600.0)

    assert f"report {report_id} has failed" in read_output(capsys)


def test_a_report_that_compares_nothing_is_not_waited_for(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = train_pair(stage)
    make_report(stage, stage.run(run_id)["report_run_id"])
    capsys.readouterr()

    show_verdict(client, run_id, timeout_s=600.0)

    assert f"see `tandem report {run_id}`" in read_output(capsys)


def test_patience_has_an_end(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = train_pair(stage)
    capsys.readouterr()

    show_verdict(client, run_id, timeout_s=0.0)

    assert "no verdict yet" in read_output(capsys)


def test_show_has_the_baseline_the_verdict_and_what_seeds_do(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, baseline_id = train_pair(stage)
    other = stage.launch(spec=make_bckd_spec(seed=1))
    train_run(stage, other["id"], 0.32)
    make_report(stage, stage.run(run_id)["report_run_id"], make_comparison(run_id, baseline_id))

    capsys.readouterr()
    console.output().print(build_details(client.run(run_id), client.noise(run_id).noise))

    lines = capsys.readouterr().out.splitlines()
    fields = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines)
    assert fields["baseline"] == baseline_id
    assert "Distillation helps" in fields["verdict"]
    assert "measured on 2 runs" in fields["noise floor"]


def test_a_plan_at_a_shell_names_the_baseline(
    stage: Stage, client: TandemClient, capsys: pytest.CaptureFixture[str]
) -> None:
    _, baseline_id = launch_pair(stage)
    capsys.readouterr()

    _show_plan(client, RunRequest(spec=make_bckd_spec(distillation={"method": "pkd"})))

    assert f"existing run {baseline_id} (queued)" in read_output(capsys)
