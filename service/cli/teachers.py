"""`tandem teachers`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import load_settings, load_stack_config, open_client

if TYPE_CHECKING:
    from configs.teacher_catalog import TeacherCard

_app = typer.Typer(help="Detectors that teach.", no_args_is_help=True)
Replace = Annotated[bool, typer.Option("--replace", help="Take the place of one with this name.")]


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
            console.format_score(teacher.measured_map),
            teacher.source,
        )
    console.output().print(shown)


@_app.command("known")
def list_known_teachers() -> None:
    """List the teachers that presets name, and how to get each."""
    from configs.teacher_catalog import known_teachers

    shown = console.table(
        "name", "what it is", "mAP", "get it with", folding=("what it is", "get it with")
    )
    for name, card in known_teachers().items():
        command = f"teachers fetch {name}" if card.can_be_fetched else f"run {card.preset}"
        shown.add_row(
            name, card.summary, console.format_score(card.published_map), f"tandem {command}"
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
    replace: Replace = False,
) -> None:
    """Register a detector as a teacher."""
    document = _read_card(card or checkpoint.with_suffix(".json"))
    card_with_name = document | ({"name": name} if name else {})
    register_teacher(card_with_name, checkpoint.resolve(), replace=replace)


@_app.command("fetch")
def fetch_teacher(
    name: Annotated[str, typer.Argument(help="A name that `tandem teachers known` shows.")],
    source: Annotated[
        str | None, typer.Option(help="Where else the same file is: a path, https:// or s3://.")
    ] = None,
    replace: Replace = False,
) -> None:
    """Get a known teacher, check and convert it, and register it."""
    from configs.teacher_catalog import how_to_get_teacher, known_teachers

    card = known_teachers().get(name)
    if card is None:
        raise CliError(
            ErrorMessage(
                f"Nothing is known of a teacher {name!r}.",
                advice=("`tandem teachers known` lists those that can be fetched.",),
            )
        )
    if not card.can_be_fetched:
        raise CliError(
            ErrorMessage(f"There is no file of {name!r}.", advice=(how_to_get_teacher(name),))
        )
    if card.shipped:
        register_shipped_teacher(name)
        return
    weights = _import(name, card, source=source)
    document = _read_card(weights.with_suffix(".json"))
    if card.published_map is not None:
        document["source"] = f"{document['source']}; published mAP {100 * card.published_map:.1f}"
    _register_if_up(document, weights, replace=replace)


def build_import_command(
    name: str, card: "TeacherCard", *, worker: Path, source: str | None, out: Path
) -> list[str]:
    """The worker's command that brings a known teacher to the folder `out`."""
    assert card.classes is not None
    assert card.sha256 is not None
    return [
        *(str(worker), "teacher", "import", source or str(card.source)),
        *("--name", name, "--preset", card.preset, "--classes", card.classes),
        *("--sha256", card.sha256, "--out", str(out)),
    ]


def register_shipped_teacher(name: str) -> None:
    """Registers a teacher that comes with Tandem, from a copy in the home."""
    import json
    from importlib.resources import files

    shipped = files("configs").joinpath("teachers")
    card, weights = shipped.joinpath(f"{name}.json"), shipped.joinpath(f"{name}.pth")
    if not card.is_file() or not weights.is_file():
        raise CliError(
            ErrorMessage(
                f"This installation has no {name.replace('-', ' ')}.",
                advice=("Train one: `make demo TEACHER=train`, or `tandem demo --teacher train`.",),
            )
        )
    copy = load_settings().teachers_dir / f"{name}.pth"
    copy.parent.mkdir(parents=True, exist_ok=True)
    content = weights.read_bytes()
    if not copy.exists() or copy.read_bytes() != content:
        copy.write_bytes(content)
    register_teacher(json.loads(card.read_text(encoding="utf-8")), copy, replace=True)


def register_teacher(card: dict[str, object], checkpoint: Path, *, replace: bool) -> None:
    """Registers what a card describes; a card may leave out all but name, detector and classes."""
    from service.api.schemas.registry import TeacherRequest

    request = TeacherRequest.model_validate(
        card | {"checkpoint": str(checkpoint), "replace": replace}
    )
    with open_client() as client:
        teacher = client.register_teacher(request)
    console.output().print(
        f"Teacher [bold]{teacher.name}[/] is registered; runs say teacher.name={teacher.name}"
    )


def _import(name: str, card: "TeacherCard", *, source: str | None) -> Path:
    """Lets a worker bring the file and convert it; the service knows no torch."""
    import subprocess

    out = load_settings().teachers_dir
    worker = load_stack_config().bin / "tandem-worker"
    command = build_import_command(name, card, worker=worker, source=source, out=out)
    if subprocess.run(command, check=False).returncode != 0:
        raise CliError(
            ErrorMessage(
                f"The teacher {name!r} was not brought here.",
                advice=(
                    "The lines above say why; nothing was registered. If this machine has no way "
                    "to the file, copy it here and give it with --source.",
                ),
            )
        )
    return out / f"{name}.pth"


def _read_card(file: Path) -> dict[str, object]:
    import yaml

    if not file.exists():
        raise CliError(
            ErrorMessage(
                f"There is no card {file}.",
                advice=("Write one with name, detector and classes, and give it with --card.",),
            )
        )
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise CliError(
            ErrorMessage(f"{file} is not a mapping.", advice=("Write name: ..., detector: ....",))
        )
    return document


def _register_if_up(card: dict[str, object], weights: Path, *, replace: bool) -> None:
    from service.client import ServiceUnreachable

    try:
        register_teacher(card, weights, replace=replace)
    except ServiceUnreachable:
        console.output().print(
            f"After `tandem up`, register it with: tandem teachers add {weights}", soft_wrap=True
        )
