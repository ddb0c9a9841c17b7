"""`tandem evaluate`, `export` and `predict`: jobs on a trained detector."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from service.cli import console
from service.cli.runs import Watch, watch_run
from service.cli.session import load_settings, load_stack_config, open_client, resolve_run_id

if TYPE_CHECKING:
    from typing import Any

    from pydantic import BaseModel

    from service.api.schemas.runs import RunView
    from service.client import TandemClient

RequestT = TypeVar("RequestT", bound="BaseModel")

_RUN_ID = re.compile(r"r[0-9a-z]{2,12}")

Model = Annotated[
    str, typer.Argument(help="The id of a run or its beginning, or the name of a teacher.")
]
Size = Annotated[
    str, typer.Option(help="Long and short edge, e.g. 1333x800; by default as the run was trained.")
]
MaxDetections = Annotated[
    int | None,
    typer.Option(help="Of an image; by default as in the model's run, 100 for a teacher."),
]


def evaluate(
    model: Model,
    data: Annotated[str, typer.Option(help="The dataset's name.")],
    split: Annotated[str, typer.Option(help="train or val.")] = "val",
    images: Annotated[int | None, typer.Option(help="Only the first N images.")] = None,
    size: Size = "",
    max_detections: MaxDetections = None,
    checkpoint: Annotated[str, typer.Option(help="Of a run: best or last.")] = "best",
    watch: Watch = False,
    as_json: console.AsJson = False,
) -> None:
    """Evaluate a detector: all COCO metrics, curves, images per second, latency."""
    from service.api.schemas.runs import EvaluationRequest

    with open_client() as client:
        reference = _parse_model(client, model, checkpoint)
        document = {
            "model": reference,
            "data": {
                "dataset": {"name": data},
                "split": split,
                "images": images,
                "image_size": _parse_size(size),
                "max_detections": max_detections,
            },
            "name": f"evaluation of {model}",
        }
        launched = client.evaluate(_validate(EvaluationRequest, document))
        ended = _finish_launch(client, launched, watch=watch, as_json=as_json)
    if ended is not None:
        _print_metrics(ended)


def export(
    model: Model,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="checkpoint, onnx or mlflow; may be repeated."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The dataset to compare the exports with the original on.")
    ] = None,
    size: Size = "",
    max_detections: MaxDetections = None,
    checkpoint: Annotated[str, typer.Option(help="Of a run: best or last.")] = "best",
    watch: Watch = False,
    as_json: console.AsJson = False,
) -> None:
    """Export a detector to other formats, and compare each with the original."""
    from service.api.schemas.runs import ExportRequest

    with open_client() as client:
        document: dict[str, Any] = {
            "model": _parse_model(client, model, checkpoint),
            "image_size": _parse_size(size),
            "max_detections": max_detections,
            "dataset": None if data is None else {"name": data},
            "name": f"export of {model}",
        }
        if formats:
            document["formats"] = formats
        launched = client.export(_validate(ExportRequest, document))
        ended = _finish_launch(client, launched, watch=watch, as_json=as_json)
    if ended is not None:
        _print_files(ended)


def predict(
    model: Annotated[
        str, typer.Argument(help="The id of a run, the folder of an export, or an .onnx file.")
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder for the drawn images.")] = Path("predictions"),
    score: Annotated[float, typer.Option(help="Lowest score to draw.", min=0, max=1)] = 0.3,
) -> None:
    """Draw the detections of a model into images."""
    import subprocess

    command = [
        *(str(load_stack_config().bin / "tandem-worker"), "predict", str(_resolve_path(model))),
        *(str(image) for image in images),
        *("--out", str(out), "--score", str(score)),
    ]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _resolve_path(model: str) -> Path:
    """Return an existing path unchanged; for a run's id, the run's folder."""
    path = Path(model)
    if path.exists():
        return path
    with open_client() as client:
        return load_settings().runs_dir / resolve_run_id(client, model)


def _parse_model(client: "TandemClient", model: str, checkpoint: str) -> "dict[str, str]":
    """Build the model reference: a teacher's name takes precedence over a run's id."""
    if any(teacher.name == model for teacher in client.teachers()):
        return {"name": model}
    if _RUN_ID.fullmatch(model):
        return {"run": resolve_run_id(client, model), "checkpoint": checkpoint}
    return {"name": model}


def _parse_size(size: str) -> "list[int] | None":
    from service.cli.errors import CliError, ErrorMessage

    if not size:
        return None
    try:
        longest, shortest = (int(edge) for edge in size.lower().split("x"))
    except ValueError:
        raise CliError(
            ErrorMessage(
                f"--size {size} is not a size.", advice=("Write LONGxSHORT, e.g. 1333x800.",)
            )
        ) from None
    return [longest, shortest]


def _validate(model: type[RequestT], document: "dict[str, Any]") -> RequestT:
    """Validate a request; raise `CliError` with the invalid fields."""
    from pydantic import ValidationError

    from configs.problems import problems_from_validation
    from service.cli.errors import CliError, ErrorMessage

    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = problems_from_validation(error, document, model)
        fields = tuple((p.field, p.message) for p in problems)
        raise CliError(ErrorMessage("The request is invalid.", fields=fields)) from None


def _finish_launch(
    client: "TandemClient", launched: "RunView", *, watch: bool, as_json: bool
) -> "RunView | None":
    """Say that a job is launched, and wait for its end if asked to.

    Return the job when it has ended and its result is still to be printed.
    """
    from rich.markup import escape

    if not as_json:
        out = console.output()
        out.print(f"Launched [bold]{launched.id}[/] ({escape(launched.name)})")
        if not watch:
            out.print(f"`tandem show {launched.id}` shows its state and its result.")
    ended = watch_run(client, launched.id, is_quiet=as_json) if watch else None
    if as_json:
        console.print_json(ended or launched)
        return None
    return ended


def _print_metrics(ended: "RunView") -> None:
    from service.cli.views.metrics import iter_metrics
    from service.cli.views.run_result import print_mlflow_url

    console.output().print(console.create_fields(dict(iter_metrics(ended.latest))))
    print_mlflow_url(ended)


def _print_files(ended: "RunView") -> None:
    from service.cli.views.run_result import print_mlflow_url

    console.output().print("The files are among the artifacts of the run in MLflow.")
    print_mlflow_url(ended)
