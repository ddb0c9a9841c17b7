"""What an autopilot delivers: a registered model and a report, whatever is killed before."""

import pytest

from configs.protocol.names import Tag
from service.domain.autopilot.autopilots import AutopilotPhase
from service.domain.autopilot.history import StageEnd
from service.domain.runs import Run
from service.usecases.autopilots.delivery import advance_delivery
from tests.support.service.simulated_autopilot import (
    LATENCY_MS,
    SimulatedAutopilot,
    launch_simulated,
)
from tests.support.service.stage import Stage

ENDS = (AutopilotPhase.SUCCEEDED, AutopilotPhase.FAILED, AutopilotPhase.STOPPED)
DELIVERING = AutopilotPhase.DELIVERING
MLFLOW_RUN = "m-export"


def start_delivery(autopilot: SimulatedAutopilot) -> Run:
    """Take turns until the jobs of the delivery are launched; MLflow has a run of the export."""
    autopilot.advance_to(DELIVERING)
    autopilot.turn()
    export = autopilot.runs[f"export.{autopilot.conclusion.run}"]
    autopilot.stage.tracker.runs[export.id] = MLFLOW_RUN
    return export


def end_early(stage: Stage, **changes: object) -> SimulatedAutopilot:
    """An autopilot whose hours are over after the noise floor; it delivers the student alone."""
    autopilot = launch_simulated(stage, **changes)
    for _ in range(200):
        ends = [entry for entry in autopilot.history.entries if isinstance(entry, StageEnd)]
        if any(end.stage == "noise_floor" for end in ends):
            stage.clock.advance(8 * 3600.0)
            return autopilot
        autopilot.turn()
    raise AssertionError("the noise floor did not end")


def report_jobs(autopilot: SimulatedAutopilot) -> None:
    """Take turns until all jobs of the delivery have reported their outcomes."""
    prefixes = ("export.", "evaluation.")
    for _ in range(20):
        jobs = [run for key, run in autopilot.runs.items() if key.startswith(prefixes)]
        if all(run.is_over or run.ingest.pending_outcome for run in jobs):
            return
        autopilot.turn()
    raise AssertionError("the delivery does not end")


def test_the_model_of_a_confirmed_method_becomes_the_champion(stage: Stage) -> None:
    autopilot = launch_simulated(stage)
    start_delivery(autopilot)

    autopilot.advance_to(*ENDS)

    conclusion = autopilot.conclusion
    delivered = autopilot.runs[conclusion.run or ""]
    (release,) = stage.tracker.releases["pets"]
    assert (release.mlflow_run_id, release.path) == (MLFLOW_RUN, "export/mlflow")
    assert release.description == conclusion.message
    assert stage.tracker.aliases == {("pets", "champion"): "1"}
    gain = conclusion.gains[conclusion.arm or ""]
    assert release.tags == {
        Tag.AUTOPILOT_ID: autopilot.id,
        Tag.RUN_ID: delivered.id,
        "tandem.dataset": "pets",
        "tandem.teacher": "big",
        "tandem.method": conclusion.arm,
        "tandem.gain": f"{100 * gain.mean:+.1f} mAP over {gain.pairs} pairs, "
        f"above {100 * (gain.low or 0.0):+.1f}",
    }
    assert autopilot.phase is AutopilotPhase.SUCCEEDED
    assert autopilot.autopilot.message == (
        f"{conclusion.message} MLflow has it as version 1 of the model pets, alias champion."
    )
    check_reports(autopilot, delivered)


def check_reports(autopilot: SimulatedAutopilot, delivered: Run) -> None:
    """All formats have the claim and what is delivered."""
    url = f"/v1/autopilots/{autopilot.id}/report"
    reports = {
        name: autopilot.stage.http.get(url, params={"format": name})
        for name in ("md", "html", "json")
    }

    assert all(report.status_code == 200 for report in reports.values())
    assert reports["html"].headers["content-type"] == "text/html; charset=utf-8"
    export = autopilot.runs[f"export.{autopilot.conclusion.run}"]
    for report in reports.values():
        assert delivered.id in report.text
        assert export.id in report.text
        assert f"{LATENCY_MS} ms" in report.text
        assert autopilot.autopilot.message in report.text
    sections = {section["title"]: section for section in reports["json"].json()["sections"]}
    (plot, *_) = sections["mAP against latency"]["blocks"]
    assert {model["is_delivered"] for model in plot["models"]} == {True, False}


def test_a_delivery_that_is_interrupted_anywhere_has_one_version_and_one_job_of_each_kind(
    stage: Stage,
) -> None:
    autopilot = end_early(stage)
    start_delivery(autopilot)

    while autopilot.phase is DELIVERING:
        before = autopilot.autopilot
        autopilot.turn()
        advance_delivery(before, ctx=stage.ctx)  # as a service that stored nothing of it
        stage.restart()

    assert autopilot.phase is AutopilotPhase.SUCCEEDED
    assert len(stage.tracker.releases["pets"]) == 1
    tasks = [run.task for run in autopilot.runs.values()]
    assert (tasks.count("export"), tasks.count("evaluate")) == (1, 2)  # a teacher, the student
    assert stage.tracker.releases["pets"][0].tags["tandem.gain"] == "not confirmed"


def test_a_delivery_waits_for_mlflow(stage: Stage) -> None:
    autopilot = end_early(stage)
    start_delivery(autopilot)
    report_jobs(autopilot)
    stage.reconciler.run_once()
    stage.tracker_sync.run_once()

    stage.tracker.is_reachable = False
    stage.autopilots.run_once()

    assert autopilot.phase is DELIVERING
    assert "The model is not registered yet" in autopilot.autopilot.message
    stage.tracker.is_reachable = True
    autopilot.turn()
    autopilot.turn()
    assert autopilot.phase is AutopilotPhase.SUCCEEDED
    assert autopilot.autopilot.message.endswith("version 1 of the model pets, alias champion.")


def test_a_refusal_of_mlflow_is_said_and_the_files_are_delivered(stage: Stage) -> None:
    autopilot = end_early(stage)
    start_delivery(autopilot)
    stage.tracker.deleted.add(MLFLOW_RUN)

    autopilot.advance_to(*ENDS)

    assert autopilot.phase is AutopilotPhase.SUCCEEDED
    assert "The model is not registered: MLflow rejects it" in autopilot.autopilot.message
    assert stage.tracker.releases == {}


@pytest.mark.parametrize("format_", ["md", "html", "json"])
def test_a_report_exists_from_the_launch_on(stage: Stage, format_: str) -> None:
    autopilot = launch_simulated(stage, name="<pets>")

    report = stage.http.get(f"/v1/autopilots/{autopilot.id}/report", params={"format": format_})

    assert report.status_code == 200
    assert "nothing has been trained" in report.text
    assert ("<pets>" in report.text) == (format_ == "json")


def test_an_unknown_autopilot_has_no_report(stage: Stage) -> None:
    assert stage.http.get("/v1/autopilots/a000000000000/report").status_code == 404
