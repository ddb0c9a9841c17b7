"""`tandem teachers`."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli import console
from service.cli.failures import Refusal, Refused
from service.cli.session import open_client

_app = typer.Typer(help="Detectors that teach.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(_app, name="teachers")


@_app.command("list")
def list_teachers() -> None:
    """List the teachers that runs can name."""
    with open_client() as client:
        found = client.teachers()
    shown = console.table(
        "name", "architecture", "classes", "mAP", "source", folding=("name", "source")
    )
    for teacher in found:
        shown.add_row(
            teacher.name,
            teacher.detector.title,
            str(len(teacher.classes)),
            console.score_text(teacher.measured_map),
            teacher.source,
        )
    console.output().print(shown)


@_app.command("add")
def add_teacher(
    checkpoint: Annotated[Path, typer.Argument(help="The weights, a .pth file.", exists=True)],
    card: Annotated[
        Path | None,
        typer.Option(
            help="JSON or YAML with name, detector, classes; by default beside the checkpoint."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What runs call it; by default as the card says.")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Take the place of one with this name.")] = False,
) -> None:
    """Register a detector as a teacher."""
    import yaml

    file = card or checkpoint.with_suffix(".json")
    if not file.exists():
        raise Refused(
            Refusal(
                f"There is no card {file}.",
                advice=("Write one with name, detector and classes, and give it with --card.",),
            )
        )
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise Refused(
            Refusal(f"{file} is not a mapping.", advice=("Write name: ..., detector: ....",))
        )
    card_with_name = document | ({"name": name} if name else {})
    register_teacher(card_with_name, checkpoint.resolve(), replace=replace)


def register_teacher(card: dict[str, object], checkpoint: Path, *, replace: bool) -> None:
    """Registers what a card describes; a card may leave out all but name, detector and classes."""
    from service.api.schemas import TeacherRequest

    request = TeacherRequest.model_validate(
        card | {"checkpoint": str(checkpoint), "replace": replace}
    )
    with open_client() as client:
        teacher = client.register_teacher(request)
    console.output().print(
        f"Teacher [bold]{teacher.name}[/] is registered; runs say teacher.name={teacher.name}"
    )
