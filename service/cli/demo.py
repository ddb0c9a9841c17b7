"""`tandem demo` and `tandem bccd`: an experiment from nothing to its table, in one command."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.failures import Refusal, Refused
from service.cli.story import Experiment, tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import JsonValue

TRAIN_IMAGES = 8000
VAL_IMAGES = 1000
DIGITS = Experiment(
    name="demo",
    dataset="digits",
    teacher_preset="digits/teacher",
    baseline_preset="digits/baseline",
    taught_preset="digits/bckd",
    teacher="digits-teacher",
)
CELLS = Experiment(
    name="bccd",
    dataset="bccd",
    teacher_preset="bccd/teacher",
    baseline_preset="bccd/baseline",
    taught_preset="bccd/bckd",
    teacher=None,
)

Seed = Annotated[int, typer.Option(help="The students' seed.")]
Seeds = Annotated[str, typer.Option(help="Several seeds, as in 0,1,2; instead of --seed.")]
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


def demo(
    teacher: Annotated[
        TeacherChoice, typer.Option(help="Use the teacher that comes with Tandem, or train it.")
    ] = TeacherChoice.SHIPPED,
    seed: Seed = 0,
    seeds: Seeds = "",
    fresh: Fresh = False,
) -> None:
    """Teacher, student alone and student with BCKD, over REST; then a table and the URLs."""
    from dataclasses import replace

    from service.cli.datasets import make_dataset
    from service.cli.stack import start
    from service.cli.teachers import register_shipped

    chosen = seeds_from(seeds) if seeds else (seed,)
    start()
    options = [f"--train={TRAIN_IMAGES}", f"--val={VAL_IMAGES}"]
    make_dataset("digits", name=DIGITS.dataset, options=options)
    if teacher is TeacherChoice.TRAIN:
        tell(replace(DIGITS, teacher=None), seeds=chosen, fresh=fresh)
        return
    assert DIGITS.teacher is not None
    register_shipped(DIGITS.teacher)
    tell(DIGITS, seeds=chosen, fresh=fresh)


def bccd(
    data: Annotated[
        Path, typer.Option(help="The folder of BCCD, in VOC format.", exists=True, file_okay=False)
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Fields to change in all runs, as in schedule.epochs=3."
        ),
    ] = None,
    seed: Seed = 0,
    seeds: Seeds = "",
    fresh: Fresh = False,
) -> None:
    """The same on real microscope images, from ImageNet weights; trains its teacher first."""
    from dataclasses import replace

    from service.cli.datasets import make_dataset
    from service.cli.stack import start

    chosen = seeds_from(seeds) if seeds else (seed,)
    experiment = replace(CELLS, changes=common_changes(changes or ()))
    start()
    options = [f"--root={data.resolve()}", "--drop-bad", "--refresh"]
    make_dataset("import-voc", name=CELLS.dataset, options=options)
    tell(experiment, seeds=chosen, fresh=fresh)


def sweep_demo(
    trials: Annotated[int, typer.Option(help="How many pairs of weights to try.", min=1)] = 12,
    page: Annotated[Path, typer.Option(help="Where the report's page is written.")] = Path(
        "sweep-report.html"
    ),
) -> None:
    """Search the two weights of BCKD on digits, students packed beside one teacher; then a page."""
    from service.api.asked import SweepRequest
    from service.cli.datasets import make_dataset
    from service.cli.reports import Form, report
    from service.cli.session import open_client
    from service.cli.space import assignments_from
    from service.cli.stack import start
    from service.cli.sweeps import search
    from service.cli.teachers import register_shipped

    start()
    make_dataset(
        "digits", name=DIGITS.dataset, options=[f"--train={TRAIN_IMAGES}", f"--val={VAL_IMAGES}"]
    )
    assert DIGITS.teacher is not None
    register_shipped(DIGITS.teacher)
    weights = [
        "distillation.cls_weight=loguniform:0.25,4",
        "distillation.loc_weight=loguniform:1,16",
    ]
    request = SweepRequest(
        preset="digits/sweep",
        space=assignments_from(weights).space,
        scheduler={"kind": "asha", "grace_epochs": 2, "factor": 2},
        budget={"trials": trials},
        name="sweep demo",
    )
    with open_client() as client:
        sweep_id = search(client, request, watch=True)
    if sweep_id is not None:
        report(sweep_id, form=Form.HTML, out=page)


def common_changes(assignments: "Iterable[str]") -> "dict[str, JsonValue]":
    """Changes to every run of a story; its seeds and its teacher are not among them."""
    from service.cli.assignments import changes_from

    changes = changes_from(assignments)
    for key in changes:
        if key == "seed" or key.split(".")[0] == "teacher":
            raise Refused(
                Refusal(
                    f"{key} is not changed for all runs at once.",
                    advice=("The seed is said with --seed; the teacher is trained first.",),
                )
            )
    return changes


def seeds_from(text: str) -> tuple[int, ...]:
    """Seeds as written, `0,1,2`."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise Refused(
            Refusal(f"--seeds {text} is no list of numbers.", advice=("As in 0,1,2.",))
        ) from None
    return found
