"""`tandem teachers`: list, fetch and register teachers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.console.help_pages import create_group
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import load_settings, load_stack_config, open_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.teacher_catalog import TeacherCard
    from service.api.schemas.registry import TeacherView
    from service.cli.console.tables import OutputTable

teachers = create_group("List, fetch and register teachers.")
Replace = Annotated[bool, typer.Option("--replace", help="Replace a teacher with the same name.")]


@teachers.command("list")
def list_teachers(as_json: console.AsJson = False) -> None:
    """List the registered teachers."""
    with open_client() as client:
        views = client.teachers()
    if as_json:
        console.print_json(views)
        return
    if not views:
        console.output().print(
            "No teachers yet; `tandem teachers known` lists those that can be fetched or trained."
        )
        return
    console.output().print(_build_table(views))


def _build_table(views: "Sequence[TeacherView]") -> "OutputTable":
    from rich.markup import escape

    table = console.create_table(
        *("name", "architecture", "classes", "mAP", "source"),
        folding=("name", "architecture"),
        below=("source",),
        numbers=("classes", "mAP"),
    )
    for view in views:
        table.add_row(
            view.name,
            escape(view.detector.title),
            str(len(view.classes)),
            console.format_score(view.measured_map),
            escape(view.source),
        )
    return table


@teachers.command("known")
def list_known_teachers(as_json: console.AsJson = False) -> None:
    """List the teachers that presets use, and how to get each."""
    from configs.teacher_catalog import known_teachers

    cards = known_teachers()
    if as_json:
        console.print_json(
            [
                {
                    "name": name,
                    "summary": card.summary,
                    "published_map": card.published_map,
                    "command": _command_that_gets(name, card),
                }
                for name, card in cards.items()
            ]
        )
        return
    table = console.create_table(
        *("name", "description", "mAP", "command"),
        folding=("description",),
        below=("command",),
        numbers=("mAP",),
    )
    for name, card in cards.items():
        score = console.format_score(card.published_map)
        table.add_row(name, card.summary, score, _command_that_gets(name, card))
    console.output().print(table)


def _command_that_gets(name: str, card: "TeacherCard") -> str:
    command = f"teachers fetch {name}" if card.can_be_fetched else f"run {card.preset}"
    return f"tandem {command}"


@teachers.command("add")
def add_teacher(
    checkpoint: Annotated[Path, typer.Argument(help="The weights, a .pth file.", exists=True)],
    card: Annotated[
        Path | None,
        typer.Option(
            help="JSON or YAML with name, detector, classes; by default next to the checkpoint."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Its name in specs; by default the card's.")
    ] = None,
    replace: Replace = False,
) -> None:
    """Register a detector as a teacher."""
    document = read_card(card or checkpoint.with_suffix(".json"))
    card_with_name = document | ({"name": name} if name else {})
    register_teacher(card_with_name, checkpoint.resolve(), replace=replace)


@teachers.command("fetch")
def fetch_teacher(
    name: Annotated[str, typer.Argument(help="A name listed by `tandem teachers known`.")],
    source: Annotated[
        str | None,
        typer.Option(help="Another location of the same file: a path, https:// or s3://."),
    ] = None,
    replace: Replace = False,
) -> None:
    """Download a known teacher, check its hash, convert and register it."""
    from configs.suggestions import ask_did_you_mean
    from configs.teacher_catalog import how_to_get_teacher, known_teachers

    card = known_teachers().get(name)
    if card is None:
        question = ask_did_you_mean(name, known_teachers())
        raise CliError(
            ErrorMessage(
                f"There is no known teacher {name!r}" + (f"; {question}" if question else "."),
                advice=("`tandem teachers known` lists the known teachers.",),
            )
        )
    if not card.can_be_fetched:
        raise CliError(
            ErrorMessage(f"There is no download of {name!r}.", advice=(how_to_get_teacher(name),))
        )
    if card.shipped:
        register_shipped_teacher(name)
        return
    weights = _run_import(name, card, source=source)
    document = read_card(weights.with_suffix(".json"))
    if card.published_map is not None:
        document["source"] = f"{document['source']}; published mAP {100 * card.published_map:.1f}"
    _register_if_up(document, weights, replace=replace)


def build_import_command(
    name: str, card: "TeacherCard", *, worker: Path, source: str | None, out: Path
) -> list[str]:
    """Build the `tandem-worker` command that imports a known teacher into the folder `out`."""
    assert card.classes is not None
    assert card.sha256 is not None
    return [
        *(str(worker), "teachers", "import", source or str(card.source)),
        *("--name", name, "--preset", card.preset, "--classes", card.classes),
        *("--sha256", card.sha256, "--out", str(out)),
    ]


def register_shipped_teacher(name: str) -> None:
    """Copy a teacher that is shipped with Tandem to TANDEM_HOME, and register it."""
    import json
    from importlib.resources import files

    from configs.atomic_files import write_atomically

    folder = files("configs").joinpath("teachers")
    card, weights = folder.joinpath(f"{name}.json"), folder.joinpath(f"{name}.pth")
    if not card.is_file() or not weights.is_file():
        raise CliError(
            ErrorMessage(
                f"This installation does not include {name}.",
                advice=("Train one: `make demo TEACHER=train`, or `tandem demo --teacher train`.",),
            )
        )
    copy = load_settings().teachers_dir / f"{name}.pth"
    copy.parent.mkdir(parents=True, exist_ok=True)
    content = weights.read_bytes()
    if not copy.exists() or copy.read_bytes() != content:
        write_atomically(copy, content)
    register_teacher(json.loads(card.read_text(encoding="utf-8")), copy, replace=True)


def register_teacher(card: dict[str, object], checkpoint: Path, *, replace: bool) -> None:
    """Register a teacher by its card; only name, detector and classes are required."""
    from service.api.schemas.registry import TeacherRequest

    request = TeacherRequest.model_validate(
        card | {"checkpoint": str(checkpoint), "replace": replace}
    )
    with open_client() as client:
        teacher = client.register_teacher(request)
    console.output().print(
        f"Teacher [bold]{teacher.name}[/] is registered; use it with teacher.name={teacher.name}"
    )


def _run_import(name: str, card: "TeacherCard", *, source: str | None) -> Path:
    """Download and convert a teacher in the worker environment, which has torch."""
    import subprocess

    out = load_settings().teachers_dir
    worker = load_stack_config().bin / "tandem-worker"
    command = build_import_command(name, card, worker=worker, source=source, out=out)
    if subprocess.run(command, check=False).returncode != 0:
        raise CliError(
            ErrorMessage(
                f"The teacher {name!r} was not imported.",
                advice=(
                    "The output above shows the reason; nothing was registered. If this machine "
                    "cannot download the file, copy it here and pass it with --source.",
                ),
            )
        )
    return out / f"{name}.pth"


def read_card(file: Path) -> dict[str, object]:
    """The card of a detector: its name, architecture and classes."""
    import yaml

    if not file.exists():
        raise CliError(
            ErrorMessage(
                f"There is no card {file}.",
                advice=("Write one with name, detector and classes, and pass it with --card.",),
            )
        )
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise CliError(
            ErrorMessage(
                f"{file} is not a mapping.",
                advice=("Write it as name: ..., detector: ..., classes: ....",),
            )
        )
    return document


def _register_if_up(card: dict[str, object], weights: Path, *, replace: bool) -> None:
    from service.client_transport import ServiceUnreachable

    try:
        register_teacher(card, weights, replace=replace)
    except ServiceUnreachable:
        console.output().print(
            f"After `tandem up`, register it with: tandem teachers add {weights}",
        )
