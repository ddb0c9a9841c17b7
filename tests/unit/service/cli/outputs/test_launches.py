"""Output of the commands that launch runs, plan them, and act on them."""

from typing import Any

import pytest

from configs.protocol.records import Progress
from service.api.schemas.run_lists import RunPage
from service.api.schemas.runs import (
    FindingView,
    RepeatedPairView,
    RepeatView,
)
from service.domain.states import RunState
from tests.support.cli.outputs import CommandLine, Output
from tests.support.cli.runs import (
    BASELINE_ID,
    ESTIMATE,
    MLFLOW_URL,
    RUN_ID,
    make_comparison_view,
    make_finished_run,
    make_plan,
)
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.run_views import NOW, make_run_summary, make_run_view

QUEUED = make_run_view(
    RunState.QUEUED,
    id=RUN_ID,
    name="digits/bckd",
    preset="digits/bckd",
    baseline_run_id=BASELINE_ID,
)
RUN = ("run", "digits/bckd", "seed=1")


def make_baseline(state: RunState = RunState.RUNNING) -> Any:
    progress = Progress(
        at=NOW, attempt=1, phase="training", epoch=4, epochs=6, step=150, steps=252, eta_s=60.0
    )
    return make_run_view(state, id=BASELINE_ID, progress=progress)


def make_api_of_watch(run: Any, *, baseline: Any) -> dict[str, Any]:
    return {
        "POST /v1/runs": QUEUED,
        f"GET /v1/runs/{RUN_ID}": run,
        f"GET /v1/runs/{BASELINE_ID}": baseline,
    }


def watch(command_line: CommandLine, run: Any, *, baseline: Any) -> Output:
    return command_line.run(*RUN, "--watch", api=make_api_of_watch(run, baseline=baseline))


def test_a_launch_says_how_to_follow_it(command_line: CommandLine) -> None:
    command_line.check("run", *RUN, api={"POST /v1/runs": QUEUED})


def test_a_watched_run_ends_with_map_gain_and_mlflow(command_line: CommandLine) -> None:
    run = make_finished_run(comparison=make_comparison_view())
    api = make_api_of_watch(run, baseline=make_baseline(RunState.SUCCEEDED))

    outputs = command_line.check("run_watch", *RUN, "--watch", api=api)

    lines = outputs["pipe"].text.splitlines()
    assert lines[-4] == "mAP 45.1 after epoch 5"
    assert lines[-3].startswith("Distillation helps: +2.3 mAP [+1.1, +3.5] over 2 seeds.")
    assert lines[-1] == f"MLflow: {MLFLOW_URL}"


def test_a_watched_run_whose_baseline_trains_says_how_to_see_the_gain(
    command_line: CommandLine,
) -> None:
    lines = watch(command_line, make_finished_run(), baseline=make_baseline()).text.splitlines()

    assert lines[-3:] == [
        "mAP 45.1 after epoch 5",
        f"Its baseline {BASELINE_ID} is still training, epoch 4 of 6. When it has finished, a "
        f"report compares the two: `tandem show {RUN_ID}` shows the gain, "
        f"`tandem report {RUN_ID}` the report.",
        f"MLflow: {MLFLOW_URL}",
    ]


def test_a_watched_run_whose_baseline_failed_says_so(command_line: CommandLine) -> None:
    run = make_finished_run(is_baseline_lost=True)

    output = watch(command_line, run, baseline=make_baseline(RunState.FAILED))

    assert f"No verdict: the baseline {BASELINE_ID} has failed or is cancelled." in output.text


def test_a_watched_run_without_a_baseline_has_no_gain(command_line: CommandLine) -> None:
    run = make_finished_run(baseline_run_id=None)

    lines = watch(command_line, run, baseline=make_baseline()).text.splitlines()

    assert lines[-2:] == ["mAP 45.1 after epoch 5", f"MLflow: {MLFLOW_URL}"]


def test_a_run_as_json_is_the_run_at_its_launch_or_at_its_end(command_line: CommandLine) -> None:
    run = make_finished_run()
    api = make_api_of_watch(run, baseline=make_baseline())

    assert command_line.read_json(*RUN, api=api) == QUEUED.model_dump(mode="json")
    assert command_line.read_json(*RUN, "--watch", api=api) == run.model_dump(mode="json")


def test_a_plan_begins_with_steps_and_time(command_line: CommandLine) -> None:
    outputs = command_line.check(
        "run_plan", *RUN, "--plan", api={"POST /v1/runs:plan": make_plan()}
    )

    for output in outputs.values():
        assert output.text.startswith("Steps: 252 (6 epochs of 42).\nEstimated time: 12 min 05 s")
        assert "student:" not in output.text


def test_a_plan_counts_the_images_without_labels_of_a_step(command_line: CommandLine) -> None:
    images = {"dataset": {"name": "photos"}, "images_per_batch": 12}
    spec = make_bckd_spec(data=make_spec()["data"] | {"unlabelled": images})
    api = {"POST /v1/runs:plan": make_plan(spec=spec)}

    output = command_line.run(*RUN, "--plan", api=api)

    assert "Images of a step: 16, 4 with labels and 12 without." in output.text


def test_a_plan_shows_the_spec_on_request(command_line: CommandLine) -> None:
    api = {"POST /v1/runs:plan": make_plan()}

    with_spec = command_line.run(*RUN, "--plan", "--spec", api=api)
    refused = command_line.run(*RUN, "--spec", api=api)

    assert "student:" in with_spec.text
    assert refused.exit_code == 1
    assert "--spec has no effect without --plan" in refused.text


def test_a_plan_without_an_earlier_run_says_that_the_time_is_unknown(
    command_line: CommandLine,
) -> None:
    estimate = ESTIMATE.model_copy(update={"duration_s": None, "reference_run_id": None})
    api = {"POST /v1/runs:plan": make_plan(estimate=estimate)}

    output = command_line.run(*RUN, "--plan", api=api)

    assert "Estimated time: unknown until a run like this one has finished." in output.text


def test_a_plan_with_an_error_fails_also_as_json(command_line: CommandLine) -> None:
    error = FindingView(severity="error", field="data", code="dataset_not_found", message="None.")
    api = {"POST /v1/runs:plan": make_plan(findings=[error], estimate=None)}

    assert command_line.run(*RUN, "--plan", api=api).exit_code == 1
    assert command_line.run(*RUN, "--plan", "--json", api=api).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "endpoint", "run", "text"),
    [
        (("cancel",), "cancel", make_finished_run(RunState.CANCELLED), "is cancelled"),
        (
            ("pause",),
            "pause",
            make_run_view(id=RUN_ID),
            "is running: it writes a checkpoint and stops",
        ),
        (("resume",), "resume", QUEUED, "is queued"),
        (("retry",), "retry", QUEUED, "is queued"),
        (
            ("prioritize",),
            "prioritize",
            QUEUED.model_copy(update={"priority": 10}),
            "is queued: its priority is 10",
        ),
    ],
    ids=["cancel", "pause", "resume", "retry", "prioritize"],
)
def test_an_action_prints_the_state_of_the_run(
    command_line: CommandLine, arguments: tuple[str, ...], endpoint: str, run: Any, text: str
) -> None:
    api = {
        "GET /v1/runs": RunPage(items=[make_run_summary(id=RUN_ID)], next_cursor=None),
        f"POST /v1/runs/{RUN_ID}:{endpoint}": run,
    }
    values = ("10",) if endpoint == "prioritize" else ()

    outputs = command_line.check(endpoint, *arguments, RUN_ID, *values, api=api)

    assert outputs["pipe"].text == f"{RUN_ID} {text}\n"
    assert command_line.read_json(*arguments, RUN_ID, *values, api=api) == run.model_dump(
        mode="json"
    )


def test_repeat(command_line: CommandLine) -> None:
    pairs = [(0, RUN_ID, False), (1, "r5eedone00000", True)]
    repetition = RepeatView(
        run_id=RUN_ID,
        pairs=[
            RepeatedPairView(
                seed=seed,
                run_id=run_id,
                state=RunState.QUEUED if is_new else RunState.SUCCEEDED,
                baseline_run_id=BASELINE_ID,
                baseline_state=RunState.QUEUED if is_new else RunState.SUCCEEDED,
                is_new=is_new,
            )
            for seed, run_id, is_new in pairs
        ],
    )
    api = {
        "GET /v1/runs": RunPage(items=[make_run_summary(id=RUN_ID)], next_cursor=None),
        f"POST /v1/runs/{RUN_ID}:repeat": repetition,
    }

    command_line.check("repeat", "repeat", RUN_ID, "--seeds", "2", api=api)

    assert command_line.read_json("repeat", RUN_ID, api=api) == repetition.model_dump(mode="json")
