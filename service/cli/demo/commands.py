"""`tandem demo`, `bccd`, `sweep-demo` and `demo-search`: each runs a complete experiment."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.demo.experiment import Experiment, run_experiment
from service.cli.errors import CliError, ErrorMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import JsonValue

    from service.api.schemas.sweeps import SweepRequest

DIGITS = Experiment(
    name="demo",
    dataset="digits",
    teacher_preset="digits/teacher",
    distilled_preset="digits/bckd",
    teacher="digits-teacher",
    is_packed=True,
)
DEMO_SEEDS = "0,1,2,3"

SEARCH_SEED, SEARCH_REPEATS = 101, 2
"""The search uses seeds 101 and 102, none of the demo's seeds."""

CLS_WEIGHT, LOC_WEIGHT = "distillation.cls_weight", "distillation.loc_weight"
SEARCH_FIELDS = ("schedule.optimizer.lr", CLS_WEIGHT, LOC_WEIGHT)
SEARCH_POINTS = tuple(
    (lr, *weights)
    for weights in ((0.0, 0.0), (4.0, 4.0), (8.0, 8.0))
    for lr in (1e-3, 1.4e-3, 2e-3, 2.8e-3)
)
"""Learning rate and both loss weights of each trial; weights of 0 make a baseline."""

Changes = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Fields to change in all runs, e.g. schedule.epochs=3."
    ),
]
Seed = Annotated[int, typer.Option(help="The students' seed.")]
Seeds = Annotated[str, typer.Option(help="Several seeds, e.g. 0,1,2; replaces --seed.")]
Page = Annotated[Path, typer.Option(help="File for the HTML report.")]
Fresh = Annotated[bool, typer.Option(help="Train all runs again, also those of an earlier call.")]


class TeacherChoice(StrEnum):
    """Source of the demo's teacher."""

    SHIPPED = "shipped"
    TRAIN = "train"


def demo(
    changes: Changes = None,
    teacher: Annotated[
        TeacherChoice, typer.Option(help="Use the shipped teacher, or train one.")
    ] = TeacherChoice.SHIPPED,
    seeds: Annotated[
        str, typer.Option(help="Seeds; each trains a student and its baseline.")
    ] = DEMO_SEEDS,
    page: Page = Path("demo-report.html"),
    fresh: Fresh = False,
) -> None:
    """Compare students with and without BCKD on digits; print a table, write a report."""
    from dataclasses import replace

    from service.cli.datasets import make_digits

    seed_list = parse_seeds(seeds)
    common = parse_common_changes(changes or ())
    _prepare_digits()
    experiment = replace(DIGITS, changes=common)
    if teacher is TeacherChoice.TRAIN:
        make_digits("digits-large")
        experiment = replace(experiment, teacher=None)
    run_experiment(experiment, seeds=seed_list, fresh=fresh, page=page)


def bccd(
    data: Annotated[
        Path, typer.Option(help="The folder of BCCD, in VOC format.", exists=True, file_okay=False)
    ],
    changes: Changes = None,
    seed: Seed = 0,
    seeds: Seeds = "",
    fresh: Fresh = False,
) -> None:
    """Compare students on microscope images, from ImageNet weights; train the teacher first.

    It is `tandem distill FOLDER --name bccd --drop-bad`.
    """
    from service.cli.demo.own_data import distill

    distill(str(data), changes, seeds=seeds or str(seed), name="bccd", drop_bad=True, fresh=fresh)


def sweep_demo(
    trials: Annotated[int, typer.Option(help="Number of trials.", min=1)] = 12,
    page: Page = Path("sweep-report.html"),
) -> None:
    """Search the two loss weights of BCKD on digits in packs; write a report."""
    from service.api.schemas.sweeps import SweepRequest
    from service.cli.parsing import parse_assignments

    weights = [f"{CLS_WEIGHT}=loguniform:0.25,16", f"{LOC_WEIGHT}=loguniform:0.25,16"]
    request = SweepRequest(
        preset="digits/sweep",
        space=parse_assignments(weights).space,
        scheduler={"kind": "asha", "grace_epochs": 2, "factor": 2},
        budget={"trials": trials},
        name="sweep demo",
    )
    _prepare_digits()
    _run_search(request, page=page)


def demo_search(page: Page = Path("demo-search.html")) -> None:
    """Repeat the search that chose the demo's settings, with seeds that the demo does not use."""
    from service.api.schemas.sweeps import SweepRequest

    _prepare_digits()
    _run_search(
        SweepRequest(
            preset="digits/bckd",
            changes={"seed": SEARCH_SEED},
            space={
                name: {
                    "kind": "choice",
                    "values": sorted({point[index] for point in SEARCH_POINTS}),
                }
                for index, name in enumerate(SEARCH_FIELDS)
            },
            initial_points=[
                dict(zip(SEARCH_FIELDS, point, strict=True)) for point in SEARCH_POINTS
            ],
            budget={"trials": len(SEARCH_POINTS)},
            repeats=SEARCH_REPEATS,
            baseline=False,  # the trials with weights of 0 are baselines
            noise_runs=0,
            probe=False,
            pack=len(SEARCH_POINTS),
            name="demo search",
        ),
        page=page,
    )


def _prepare_digits() -> None:
    """Start the stack, create the students' images and register the shipped teacher."""
    from service.cli.datasets import make_digits
    from service.cli.stack import start_stack_with_progress
    from service.cli.teachers import register_shipped_teacher

    start_stack_with_progress()
    make_digits(DIGITS.dataset)
    assert DIGITS.teacher is not None
    register_shipped_teacher(DIGITS.teacher)


def _run_search(request: "SweepRequest", *, page: Path) -> None:
    from service.cli.reports import OutputFormat, report
    from service.cli.session import open_client
    from service.cli.sweeps import launch_and_watch

    with open_client() as client:
        sweep_id = launch_and_watch(client, request, watch=True)
    if sweep_id is not None:
        report(sweep_id, output_format=OutputFormat.HTML, out=page)


def parse_common_changes(assignments: "Iterable[str]") -> "dict[str, JsonValue]":
    """Parse changes to all runs of an experiment; seed and teacher cannot be changed."""
    from service.cli.parsing import parse_changes

    changes = parse_changes(assignments)
    for key in changes:
        if key == "seed" or key.split(".")[0] == "teacher":
            raise CliError(
                ErrorMessage(
                    f"{key} cannot be changed for all runs of the experiment.",
                    advice=("Pass the seed with --seed; the experiment chooses the teacher.",),
                )
            )
    return changes


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse a list of seeds, e.g. `0,1,2`; duplicates count once."""
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise CliError(
            ErrorMessage(f"--seeds {text} is not a list of numbers.", advice=("Write e.g. 0,1,2.",))
        ) from None
    return seeds
