"""`tandem-worker evaluate` and `export`: what a trained detector is good for."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.spec import EvaluationSpec, ExportSpec
from workers.shell import begin_attempt

if TYPE_CHECKING:
    from workers.reporting.reporter import Identity

SpecFile = Annotated[Path, typer.Option(help="The job's spec, as YAML or JSON.", exists=True)]
RunDir = Annotated[Path, typer.Option(help="Where results, records and logs of the job lie.")]
RunIdOption = Annotated[str, typer.Option(help="The run's id.")]
Attempt = Annotated[int, typer.Option(help="Which try of the run this is.")]
ReportTo = Annotated[str | None, typer.Option(help="The service's address.")]
MlflowUrl = Annotated[str | None, typer.Option(help="The MLflow server's address.")]
NameOption = Annotated[str | None, typer.Option(help="What the run is called in MLflow.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (evaluate, export):
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
    from workers.reporting.reporter import Identity

    return Identity(
        run_id=run_id or run_dir.resolve().name,
        attempt=attempt,
        report_url=report_to,
        mlflow_url=mlflow,
        name=name,
    )
