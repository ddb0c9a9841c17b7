"""`tandem-worker evaluate` and `export`: what a trained detector is good for."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.spec import EvaluationSpec, ExitCode, ExportSpec
from workers.logs import silence_libraries
from workers.shell import begin_attempt

if TYPE_CHECKING:
    from workers.reporting.identity import Identity

SpecFile = Annotated[Path, typer.Option(help="The job's spec, as YAML or JSON.", exists=True)]
RunDir = Annotated[Path, typer.Option(help="Where results, records and logs of the job lie.")]
RunIdOption = Annotated[str, typer.Option(help="The run's id.")]
Attempt = Annotated[int, typer.Option(help="Which try of the run this is.")]
ReportTo = Annotated[str | None, typer.Option(help="The service's address.")]
MlflowUrl = Annotated[str | None, typer.Option(help="The MLflow server's address.")]
NameOption = Annotated[str | None, typer.Option(help="What the run is called in MLflow.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (evaluate, export, predict):
        app.command()(command)


def evaluate(
    spec: SpecFile,
    run_dir: RunDir,
    run_id: RunIdOption = "",
    attempt: Attempt = 1,
    report_to: ReportTo = None,
    mlflow: MlflowUrl = None,
    name: NameOption = None,
) -> None:
    """Measure a detector on a dataset: COCO's numbers, curves, speed."""
    asked = begin_attempt(spec, task="evaluate", run_dir=run_dir, number=attempt)
    assert isinstance(asked, EvaluationSpec)
    identity = _identity(run_dir, run_id, attempt, report_to, mlflow, name)
    from workers.evaluate import evaluate as run_evaluation

    sys.exit(run_evaluation(asked, identity=identity, run_dir=run_dir.resolve()))


def export(
    spec: SpecFile,
    run_dir: RunDir,
    run_id: RunIdOption = "",
    attempt: Attempt = 1,
    report_to: ReportTo = None,
    mlflow: MlflowUrl = None,
    name: NameOption = None,
) -> None:
    """Write a detector in formats of others, each compared with the original."""
    asked = begin_attempt(spec, task="export", run_dir=run_dir, number=attempt)
    assert isinstance(asked, ExportSpec)
    identity = _identity(run_dir, run_id, attempt, report_to, mlflow, name)
    from workers.export.job import export as run_export

    sys.exit(run_export(asked, identity=identity, run_dir=run_dir.resolve()))


def predict(
    model: Annotated[Path, typer.Argument(help="An .onnx file, an export's folder, or a run's.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Where pictures are drawn.")] = Path("predictions"),
    score: Annotated[float, typer.Option(help="The lowest score shown.", min=0, max=1)] = 0.3,
) -> None:
    """Draw what a detector finds in images."""
    silence_libraries()
    from workers import compat

    compat.apply()
    from workers.errors import WorkerError
    from workers.export.tandem_runtime import UnreadableImage
    from workers.predict import detector_at
    from workers.predict import predict as draw

    try:
        for prediction in draw(detector_at(model), images, out=out, score=score):
            print(f"{prediction.image} -> {prediction.picture}")
            for line in prediction.lines():
                print(f"  {line}")
    except (UnreadableImage, WorkerError) as error:
        print(error, file=sys.stderr)
        sys.exit(ExitCode.REFUSED)


def _identity(
    run_dir: Path,
    run_id: str,
    attempt: int,
    report_to: str | None,
    mlflow: str | None,
    name: str | None,
) -> "Identity":
    """Who reports; torch and the rest are loaded from here on."""
    from workers import compat

    compat.apply()
    from workers.reporting.identity import Identity

    return Identity(
        run_id=run_id or run_dir.resolve().name,
        attempt=attempt,
        report_url=report_to,
        mlflow_url=mlflow,
        name=name,
    )
