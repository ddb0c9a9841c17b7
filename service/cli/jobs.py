"""`tandem evaluate` and `export`: what a trained detector is good for."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic import BaseModel

from service.cli import console
from service.cli.session import load_settings, load_stack_config, open_client, resolve_run_id

if TYPE_CHECKING:
    from typing import Any

    from service.api.schemas.runs import RunView
    from service.client import TandemClient

Request = TypeVar("Request", bound=BaseModel)

_RUN_ID = re.compile(r"r[0-9a-z]{2,12}")

Model = Annotated[str, typer.Argument(help="A run's id, or enough of it; or a teacher's name.")]
Watch = Annotated[bool, typer.Option("--watch/--no-watch", help="Follow it until it ends.")]
Size = Annotated[
    str, typer.Option(help="Longest and shortest edge, as in 1333x800; a run knows its own.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (evaluate, export, predict):
        app.command()(command)


def evaluate(
    model: Model,
    data: Annotated[str, typer.Option(help="The dataset's name.")],
    split: Annotated[str, typer.Option(help="val or train.")] = "val",
    images: Annotated[int | None, typer.Option(help="The first so many images only.")] = None,
    size: Size = "",
    checkpoint: Annotated[str, typer.Option(help="Of a run: best or last.")] = "best",
    watch: Watch = True,
) -> None:
    """Measure a detector: COCO's numbers in all parts, curves, images a second, latency."""
    from service.api.schemas.runs import EvaluationRequest

    with open_client() as client:
        reference = _reference(client, model, checkpoint)
        asked = {
            "model": reference,
            "data": {
                "dataset": {"name": data},
                "split": split,
                "images": images,
                "image_size": _edges(size),
            },
            "name": f"evaluation of {model}",
        }
        launched = client.evaluate(_checked(EvaluationRequest, asked))
        ended = _followed(client, launched, watch=watch)
    if ended is not None:
        _show_numbers(ended)


def export(
    model: Model,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="checkpoint, onnx or mlflow; repeat it for several."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Whose images compare the files with the original.")
    ] = None,
    size: Size = "",
    checkpoint: Annotated[str, typer.Option(help="Of a run: best or last.")] = "best",
    watch: Watch = True,
) -> None:
    """Write a detector in formats of others, each compared with the original."""
    from service.api.schemas.runs import ExportRequest

    with open_client() as client:
        asked: dict[str, Any] = {
            "model": _reference(client, model, checkpoint),
            "image_size": _edges(size),
            "dataset": None if data is None else {"name": data},
            "name": f"export of {model}",
        }
        if formats:
            asked["formats"] = formats
        launched = client.export(_checked(ExportRequest, asked))
        ended = _followed(client, launched, watch=watch)
    if ended is not None:
        console.output().print(f"The files are in MLflow: {ended.mlflow_url or ''}")


def predict(
    model: Annotated[str, typer.Argument(help="A run's id, an export's folder, or an .onnx file.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Where pictures are drawn.")] = Path("predictions"),
    score: Annotated[float, typer.Option(help="The lowest score shown.", min=0, max=1)] = 0.3,
) -> None:
    """Draw what a detector finds in images."""
    import subprocess

    command = [
        *(str(load_stack_config().bin / "tandem-worker"), "predict", str(_place(model))),
        *(str(image) for image in images),
        *("--out", str(out), "--score", str(score)),
    ]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _place(model: str) -> Path:
    """A path as it is; of a run, its folder."""
    path = Path(model)
    if path.exists():
        return path
    with open_client() as client:
        return load_settings().runs_dir / resolve_run_id(client, model)


def _reference(client: "TandemClient", model: str, checkpoint: str) -> "dict[str, str]":
    """A teacher by its name, or a run by its id; a teacher's name goes first."""
    if any(teacher.name == model for teacher in client.teachers()):
        return {"name": model}
    if _RUN_ID.fullmatch(model):
        return {"run": resolve_run_id(client, model), "checkpoint": checkpoint}
    return {"name": model}


def _edges(size: str) -> "list[int] | None":
    from service.cli.errors import CliError, ErrorMessage

    if not size:
        return None
    try:
        longest, shortest = (int(edge) for edge in size.lower().split("x"))
    except ValueError:
        raise CliError(
            ErrorMessage(f"--size {size} is no size.", advice=("As in 1333x800.",))
        ) from None
    return [longest, shortest]


def _checked(kind: type[Request], asked: "dict[str, Any]") -> Request:
    """The request; what is wrong with it is told by field."""
    from pydantic import ValidationError

    from configs.catalog import problems_from_validation
    from service.cli.errors import CliError, ErrorMessage

    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        fields = tuple((p.field, p.message) for p in problems_from_validation(error, asked))
        raise CliError(ErrorMessage("This cannot be asked.", fields=fields)) from None


def _followed(client: "TandemClient", launched: "RunView", *, watch: bool) -> "RunView | None":
    """The job when it is over; none if nobody waits for it."""
    from service.cli.runs import watch_run

    console.output().print(f"Launched [bold]{launched.id}[/] ({launched.name})")
    if not watch:
        console.output().print(f"`tandem logs -f {launched.id}` follows it.")
        return None
    return watch_run(client, launched.id)


def _show_numbers(ended: "RunView") -> None:
    shown = console.table("", "")
    for metric, value in sorted(ended.latest.items()):
        shown.add_row(metric, f"{value:.4g}")
    console.output().print(shown)
    console.output().print(ended.mlflow_url or "")
