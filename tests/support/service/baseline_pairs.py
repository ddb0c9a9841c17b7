"""A distilled run, its baseline and their report, whose jobs the tests end."""

from typing import Any

from configs.protocol.comparison import MAP_PARTS, Comparison, Difference
from configs.protocol.names import RunFile
from configs.protocol.records import Delivery, Metrics, Outcome, Progress, Tracked
from configs.protocol.report import Report
from tests.support.factories import make_bckd_spec
from tests.support.service.stage import Stage

STEPS_PER_EPOCH = 10


def launch_pair(stage: Stage, **changes: Any) -> tuple[str, str]:
    """Launch a distilled run; returns its id and that of its baseline."""
    stage.add_dataset()
    stage.add_teacher()
    run = stage.launch(spec=make_bckd_spec(**changes))
    return run["id"], run["baseline_run_id"]


def train_pair(stage: Stage) -> tuple[str, str]:
    """Train a distilled run and its baseline, to a mAP that is 0.023 higher with distillation."""
    run_id, baseline_id = launch_pair(stage)
    train_run(stage, baseline_id, 0.307)
    train_run(stage, run_id, 0.33)
    return run_id, baseline_id


def train_run(
    stage: Stage,
    run_id: str,
    score: float,
    *,
    teacher: float | None = None,
    has_mlflow_run: bool = False,
) -> None:
    """Report two epochs of a run, the second with mAP `score`, and let it succeed."""
    start_attempt(stage, run_id)
    at = stage.clock.now()
    curve = {STEPS_PER_EPOCH: score / 2, 2 * STEPS_PER_EPOCH: score}
    records: list[Any] = [
        Metrics(at=at, attempt=1, step=step, values={f"val/{part}": value for part in MAP_PARTS})
        for step, value in curve.items()
    ]
    if teacher is not None:
        teacher_values = {f"teacher/{part}": teacher for part in MAP_PARTS}
        records.insert(0, Metrics(at=at, attempt=1, step=0, values=teacher_values))
    if has_mlflow_run:
        records.append(Tracked(at=at, attempt=1, mlflow_run_id=f"m-{run_id}"))
    steps = 2 * STEPS_PER_EPOCH
    records += [
        Progress(
            at=at,
            attempt=1,
            phase="finishing",
            epoch=2,
            epochs=2,
            step=steps,
            steps=steps,
            eta_s=0.0,
        ),
        Outcome(at=at, attempt=1, result="succeeded"),
    ]
    body = Delivery(first=0, records=tuple(records)).model_dump(mode="json")
    response = stage.http.post(f"/v1/runs/{run_id}/attempts/1/deliveries", json=body)
    assert response.is_success, response.text
    end_job(stage, run_id, "succeeded", exit_code=0)


def start_attempt(stage: Stage, run_id: str) -> None:
    """Run the loops until the run has an attempt."""
    for _ in range(3):
        if stage.run(run_id)["attempt"]:
            return
        stage.run_loops()
        stage.clock.advance(10)
    raise AssertionError(stage.run(run_id)["waiting_for"])


def end_job(stage: Stage, run_id: str, state: Any, *, exit_code: int) -> None:
    """Let the job of the run's latest attempt end, and run the loops once."""
    attempt = stage.run(run_id)["attempt"]
    stage.cluster.set_job_state(f"{run_id}-a{attempt}", state, exit_code=exit_code)
    stage.run_loops()


def make_report(stage: Stage, report_id: str, *comparisons: Comparison) -> None:
    """Write the files of a report run and let it succeed."""
    start_attempt(stage, report_id)
    report = Report(title="t", comparisons=comparisons, noise=None, importance={})
    folder = stage.home / "runs" / report_id
    for file, text in (
        (RunFile.REPORT_JSON, report.model_dump_json()),
        (RunFile.REPORT_PAGE, "<h1>Did it help?</h1>"),
        (RunFile.REPORT_MARKDOWN, "# Did it help?\n"),
    ):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    end_job(stage, report_id, "succeeded", exit_code=0)


def make_comparison(run_id: str, baseline_id: str, **changes: Any) -> Comparison:
    fields: dict[str, Any] = {
        "runs": (run_id,),
        "baselines": (baseline_id,),
        "parts": {
            "bbox_mAP": Difference(
                run=0.33, baseline=0.307, difference=0.023, low=0.011, high=0.035
            ),
            "bbox_mAP_s": Difference(run=0.1, baseline=0.11, difference=-0.01),
        },
        "teacher_map": 0.4,
        "gap_closed": 0.41,
        "verdict": "helps",
        "seed_spread": "noise_floor",
        "basis": "the noise floor of 5 runs",
    }
    return Comparison(**fields | changes)


def list_event_kinds(stage: Stage, run_id: str) -> list[str]:
    """List the kinds of a run's events, without changes of state."""
    events = stage.http.get(f"/v1/runs/{run_id}/events").json()["items"]
    return [event["kind"] for event in events if event["kind"] not in ("state_changed", "waiting")]
