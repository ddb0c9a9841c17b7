"""A taught run, its twin and their report, each brought to an end by hand."""

from typing import Any

from configs.protocol.names import RunFile
from configs.protocol.records import Delivery, Metrics, Outcome, Progress, Tracked
from configs.protocol.report import MAP_PARTS, Comparison, Difference, Report
from tests.support.factories import a_bckd_spec
from tests.support.service.stage import Stage

STEPS_PER_EPOCH = 10


def a_pair(stage: Stage, **changes: Any) -> tuple[str, str]:
    """A taught run that was just launched, and its twin."""
    stage.add_dataset()
    stage.add_teacher()
    run = stage.launch(spec=a_bckd_spec(**changes))
    return run["id"], run["baseline_run_id"]


def a_trained_pair(stage: Stage) -> tuple[str, str]:
    """A taught run and its twin that have both succeeded, the run with 2.3 mAP more."""
    run_id, twin_id = a_pair(stage)
    train(stage, twin_id, 0.307)
    train(stage, run_id, 0.33)
    return run_id, twin_id


def train(
    stage: Stage, run_id: str, score: float, *, teacher: float | None = None, tracked: bool = False
) -> None:
    """A run trains two epochs, the second with this mAP, and succeeds."""
    start(stage, run_id)
    at = stage.clock.now()
    curve = {STEPS_PER_EPOCH: score / 2, 2 * STEPS_PER_EPOCH: score}
    records: list[Any] = [
        Metrics(at=at, attempt=1, step=step, values={f"val/{part}": value for part in MAP_PARTS})
        for step, value in curve.items()
    ]
    if teacher is not None:
        measured = {f"teacher/{part}": teacher for part in MAP_PARTS}
        records.insert(0, Metrics(at=at, attempt=1, step=0, values=measured))
    if tracked:
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
    answer = stage.http.post(f"/v1/runs/{run_id}/attempts/1/deliveries", json=body)
    assert answer.is_success, answer.text
    end(stage, run_id, "succeeded", exit_code=0)


def start(stage: Stage, run_id: str) -> None:
    """A run's attempt begins, as soon as there is room."""
    for _ in range(3):
        if stage.run(run_id)["attempt"]:
            return
        stage.turn()
        stage.clock.advance(10)
    raise AssertionError(stage.run(run_id)["waiting_for"])


def end(stage: Stage, run_id: str, state: Any, *, exit_code: int) -> None:
    """A run's job is over, and everybody takes one look."""
    attempt = stage.run(run_id)["attempt"]
    stage.cluster.set_job_state(f"{run_id}-a{attempt}", state, exit_code=exit_code)
    stage.turn()


def make_report(stage: Stage, report_id: str, *comparisons: Comparison) -> None:
    """A report's worker writes its files and succeeds."""
    start(stage, report_id)
    report = Report(title="t", comparisons=comparisons, noise=None, importance={})
    folder = stage.home / "runs" / report_id
    for file, text in (
        (RunFile.REPORT_JSON, report.model_dump_json()),
        (RunFile.REPORT_PAGE, "<h1>Did it help?</h1>"),
        (RunFile.REPORT_MARKDOWN, "# Did it help?\n"),
    ):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    end(stage, report_id, "succeeded", exit_code=0)


def a_comparison(run_id: str, twin_id: str, **changes: Any) -> Comparison:
    fields: dict[str, Any] = {
        "runs": (run_id,),
        "baselines": (twin_id,),
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


def kinds(stage: Stage, run_id: str) -> list[str]:
    """What happened to a run, without the moves between states."""
    events = stage.http.get(f"/v1/runs/{run_id}/events").json()
    return [event["kind"] for event in events if event["kind"] not in ("state_changed", "waiting")]
