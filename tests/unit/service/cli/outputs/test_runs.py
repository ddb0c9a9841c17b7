"""Output of the commands that list and show runs."""

from typing import Any

import pytest

from configs.protocol.comparison import NoiseFloor
from service.api.schemas.run_details import EventView, NoiseView
from service.api.schemas.run_lists import RunPage
from service.api.schemas.run_pages import EventPage
from service.api.schemas.runs import RunView
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from tests.support.cli.outputs import CommandLine
from tests.support.cli.runs import (
    BASELINE_ID,
    PROGRESS,
    RUN_ID,
    TIMES,
    make_comparison_view,
    make_finished_run,
)
from tests.support.service.run_views import NOW, make_run_summary


def make_page(*, has_more: bool = False) -> RunPage:
    finished = {"progress": PROGRESS, **TIMES}
    runs = [
        make_run_summary(
            RunState.SUCCEEDED,
            id=RUN_ID,
            name="digits/bckd",
            best_map=0.4512,
            gain=0.023,
            verdict="helps",
            **finished,
        ),
        make_run_summary(
            RunState.SUCCEEDED,
            id=BASELINE_ID,
            name="digits/bckd, baseline",
            best_map=0.4282,
            **finished,
        ),
        make_run_summary(
            RunState.FAILED, id="rfa11ed000000", name="cells [v2]: lr 0.02, seed 3", **TIMES
        ),
        make_run_summary(RunState.QUEUED, id="r9ueued000000", name="evaluation of r0123456789ab"),
    ]
    return RunPage(items=runs, next_cursor="r9ueued000000" if has_more else None)


def test_the_list_of_runs(command_line: CommandLine) -> None:
    outputs = command_line.check("runs", "runs", api={"GET /v1/runs": make_page(has_more=True)})

    table = outputs["terminal, 80 columns"].text.splitlines()
    assert len(table) <= 2 + 2 * 4 + 1


def test_the_list_as_json_has_the_fields_of_the_api(command_line: CommandLine) -> None:
    listed = command_line.read_json("runs", api={"GET /v1/runs": make_page()})

    assert listed == make_page().model_dump(mode="json")["items"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No runs yet; `tandem run quick/instant` launches one."),
        (("--all-tasks",), "No runs yet; `tandem run quick/instant` launches one."),
        (
            ("--state", "failed", "--state", "queued", "--project", "vision"),
            "No run matches --state failed --state queued --project vision.",
        ),
        (("--task", "export", "--dataset", "pets"), "No run matches --task export --dataset pets."),
        (("--preset", "digits/bckd"), "No run matches --preset digits/bckd."),
        (("--sort", "map"), "No run matches --sort map."),
    ],
)
def test_an_empty_list_says_which_filter_matches_nothing(
    command_line: CommandLine, arguments: tuple[str, ...], message: str
) -> None:
    output = command_line.run(
        "runs", *arguments, api={"GET /v1/runs": RunPage(items=[], next_cursor=None)}
    )

    assert output.text == f"{message}\n"


def test_an_unknown_state_is_answered_without_words_of_pydantic(command_line: CommandLine) -> None:
    output = command_line.run("runs", "--state", "runing")

    assert output.exit_code == 2
    assert "Invalid value for '--state': 'runing' is not one of 'queued', " in output.text


def test_show(command_line: CommandLine) -> None:
    run = make_finished_run(comparison=make_comparison_view(), report_run_id="r9ep09700000")
    command_line.check("show", "show", RUN_ID, api=make_api_of_show(run))


def test_show_of_a_failed_run_ends_with_its_log(command_line: CommandLine) -> None:
    run = make_finished_run(
        state=RunState.FAILED,
        reason="dataset_error",
        message="DatasetError: annotations/train.json has no images.",
        advice="Check the dataset and register it again.",
        best_map=None,
        latest={},
    )
    log = "2026-11-23 00:00:00,000 ERROR workers.attempt: The attempt failed: dataset_error\n"
    command_line.check(
        "show_failed",
        "show",
        RUN_ID,
        api={**make_api_of_show(run), f"GET /v1/runs/{RUN_ID}/logs": log},
    )


def test_logs_as_text_and_as_json(command_line: CommandLine) -> None:
    text = "Epoch 1 of 2, step 10 of 24, 12 s left: loss 2.1\nEpoch 1 of 2, step 12 of 24: loss 2\n"
    api: dict[str, Any] = {
        "GET /v1/runs": RunPage(items=[make_run_summary(id=RUN_ID)], next_cursor=None),
        f"GET /v1/runs/{RUN_ID}/logs": text,
    }

    outputs = command_line.check("logs", "logs", "r01", api=api)

    assert outputs["terminal, 80 columns"].text == text
    assert command_line.read_json("logs", "r01", api=api) == {
        "run_id": RUN_ID,
        "lines": text.splitlines(),
    }


def make_api_of_show(run: RunView) -> dict[str, Any]:
    noise = NoiseFloor(runs=4, freedom=2, deviation=0.004, floor=0.0067)
    events = [
        EventView(
            id=1,
            run_id=RUN_ID,
            at=NOW,
            actor="ada",
            kind=EventKind.LAUNCHED,
            from_state=None,
            to_state=RunState.QUEUED,
            reason=None,
            details="Launched as digits/bckd.",
        ),
        EventView(
            id=2,
            run_id=RUN_ID,
            at=NOW,
            actor="service",
            kind=EventKind.STATE_CHANGED,
            from_state=RunState.QUEUED,
            to_state=RunState.STARTING,
            reason=None,
            details=f"Attempt 1 as Ray job {RUN_ID}-a1.",
        ),
    ]
    return {
        "GET /v1/runs": RunPage(items=[make_run_summary(id=RUN_ID)], next_cursor=None),
        f"GET /v1/runs/{RUN_ID}": run,
        f"GET /v1/runs/{RUN_ID}/events": EventPage(items=events, next_cursor=None),
        f"GET /v1/runs/{RUN_ID}/noise": NoiseView(noise=noise, runs=["r1", "r2", "r3", "r4"]),
    }
