"""`tandem demo` and `tandem bccd`: an experiment from nothing to its table, in one command."""

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

SMALL_DIGITS = (
    *("--train=1000", "--val=400", "--image-size=96"),
    *("--smallest=14", "--largest=64", "--most-objects=5"),
)
"""Images of the students: objects as large as the teacher knows them, in a third of the pixels."""

LARGE_DIGITS = ("--train=8000", "--val=1000")
"""Images of the teacher, where it is trained anew."""

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
"""Seeds of the search are 101 and 102: the demo reports none of them."""

CLS_WEIGHT, LOC_WEIGHT = "distillation.cls_weight", "distillation.loc_weight"
SEARCH_FIELDS = ("schedule.optimizer.lr", CLS_WEIGHT, LOC_WEIGHT)
SEARCH_POINTS = tuple(
    (lr, *weights)
    for weights in ((0.0, 0.0), (4.0, 4.0), (8.0, 8.0))
    for lr in (1e-3, 1.4e-3, 2e-3, 2.8e-3)
)
"""Learning rate and both weights of each trial; without weights it is the student alone."""

CELLS = Experiment(
    name="bccd",
    dataset="bccd",
    teacher_preset="bccd/teacher",
    distilled_preset="bccd/bckd",
    teacher=None,
)

Changes = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Fields to change in all runs, as in schedule.epochs=3."
    ),
]
Seed = Annotated[int, typer.Option(help="The students' seed.")]
Seeds = Annotated[str, typer.Option(help="Several seeds, as in 0,1,2; instead of --seed.")]
Page = Annotated[Path, typer.Option(help="Where the report's page is written.")]
Fresh = Annotated[bool, typer.Option(help="Train again what was trained before.")]


class TeacherChoice(StrEnum):
    """Where the demo's teacher comes from."""

    SHIPPED = "shipped"
    TRAIN = "train"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(demo)
    app.command()(bccd)
    app.command(name="sweep-demo")(sweep_demo)
    app.command(name="demo-search")(demo_search)


def demo(
    changes: Changes = None,
    teacher: Annotated[
        TeacherChoice, typer.Option(help="Use the teacher that comes with Tandem, or train it.")
    ] = TeacherChoice.SHIPPED,
    seeds: Annotated[str, typer.Option(help="One pair of students for each.")] = DEMO_SEEDS,
    page: Page = Path("demo-report.html"),
    fresh: Fresh = False,
) -> None:
    """Does distillation help? Students with and without BCKD, several seeds; a table and a page."""
    from dataclasses import replace

    from service.cli.datasets import make_dataset

    chosen = parse_seeds(seeds)
    common = parse_common_changes(changes or ())
    _prepare_digits()
    experiment = replace(DIGITS, changes=common)
    if teacher is TeacherChoice.TRAIN:
        make_dataset("digits", name="digits-large", options=LARGE_DIGITS)
        experiment = replace(experiment, teacher=None)
    run_experiment(experiment, seeds=chosen, fresh=fresh, page=page)


def bccd(
    data: Annotated[
        Path, typer.Option(help="The folder of BCCD, in VOC format.", exists=True, file_okay=False)
    ],
    changes: Changes = None,
    seed: Seed = 0,
    seeds: Seeds = "",
    fresh: Fresh = False,
) -> None:
    """The same on real microscope images, from ImageNet weights; trains its teacher first."""
    from dataclasses import replace

    from service.cli.datasets import make_dataset
    from service.cli.stack import start_stack_with_progress

    chosen = parse_seeds(seeds) if seeds else (seed,)
    experiment = replace(CELLS, changes=parse_common_changes(changes or ()))
    start_stack_with_progress()
    options = [f"--root={data.resolve()}", "--drop-bad", "--refresh"]
    make_dataset("import-voc", name=CELLS.dataset, options=options)
    run_experiment(experiment, seeds=chosen, fresh=fresh)


def sweep_demo(
    trials: Annotated[int, typer.Option(help="How many pairs of weights to try.", min=1)] = 12,
    page: Page = Path("sweep-report.html"),
) -> None:
    """Search the two weights of BCKD on digits, students packed beside one teacher; then a page."""
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
    _search(request, page=page)


def demo_search(page: Page = Path("demo-search.html")) -> None:
    """Repeat the search that chose the demo's setting, on seeds that the demo does not use."""
    from service.api.schemas.sweeps import SweepRequest

    _prepare_digits()
    _search(
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
            baseline=False,  # the student alone is among the trials
            noise_runs=0,
            probe=False,
            pack=len(SEARCH_POINTS),
            name="demo search",
        ),
        page=page,
    )


def _prepare_digits() -> None:
    """The stack, the students' images and the teacher that comes with Tandem."""
    from service.cli.datasets import make_dataset
    from service.cli.stack import start_stack_with_progress
    from service.cli.teachers import register_shipped_teacher

    start_stack_with_progress()
    make_dataset("digits", name=DIGITS.dataset, options=SMALL_DIGITS)
    assert DIGITS.teacher is not None
    register_shipped_teacher(DIGITS.teacher)


def _search(request: "SweepRequest", *, page: Path) -> None:
    from service.cli.reports import OutputFormat, report
    from service.cli.session import open_client
    from service.cli.sweeps import launch_and_watch

    with open_client() as client:
        sweep_id = launch_and_watch(client, request, watch=True)
    if sweep_id is not None:
        report(sweep_id, output_format=OutputFormat.HTML, out=page)


def parse_common_changes(assignments: "Iterable[str]") -> "dict[str, JsonValue]":
    """Changes to every run of a story; its seeds and its teacher are not among them."""
    from service.cli.parsing import parse_changes

    changes = parse_changes(assignments)
    for key in changes:
        if key == "seed" or key.split(".")[0] == "teacher":
            raise CliError(
                ErrorMessage(
                    f"{key} is not changed for all runs at once.",
                    advice=("The seed is said with --seed; the teacher is trained first.",),
                )
            )
    return changes


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as written, `0,1,2`."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise CliError(
            ErrorMessage(f"--seeds {text} is no list of numbers.", advice=("As in 0,1,2.",))
        ) from None
    return found
