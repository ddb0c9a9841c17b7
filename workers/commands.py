"""Commands of `tandem-worker` that do not train: `evaluate`, `probe`, `drive` and others."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from configs.spec import (
    DEFAULT_PROJECT,
    EvaluationSpec,
    ExitCode,
    ExportSpec,
    ProbeSpec,
    ReportSpec,
)
from workers.logs import silence_libraries, write_log
from workers.options import (
    Attempt,
    MlflowUrl,
    NameOption,
    Project,
    ReportTo,
    RunDir,
    RunIdOption,
    SpecFile,
    StallAfter,
)
from workers.pulse import STALL_AFTER_S
from workers.reporting.identity import Identity
from workers.shell import begin_attempt, guard_own_cluster


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (evaluate, export, probe, report, predict, tidy, drive):
        app.command()(command)


def evaluate(
    spec: SpecFile,
    run_dir: RunDir,
    run_id: RunIdOption = "",
    attempt: Attempt = 1,
    report_to: ReportTo = None,
    mlflow: MlflowUrl = None,
    name: NameOption = None,
    project: Project = DEFAULT_PROJECT,
    stall_after: StallAfter = STALL_AFTER_S,
) -> None:
    """Measure a detector on a dataset: COCO's numbers, curves, speed."""
    identity = _identity(run_dir, run_id, attempt, report_to, mlflow, name, project)
    asked = begin_attempt(spec, task="evaluate", identity=identity, run_dir=run_dir)
    assert isinstance(asked, EvaluationSpec)
    from workers import compat

    compat.apply()
    from workers.evaluate import evaluate as run_evaluation

    folder = run_dir.resolve()
    sys.exit(run_evaluation(asked, identity=identity, run_dir=folder, stall_after_s=stall_after))


def export(
    spec: SpecFile,
    run_dir: RunDir,
    run_id: RunIdOption = "",
    attempt: Attempt = 1,
    report_to: ReportTo = None,
    mlflow: MlflowUrl = None,
    name: NameOption = None,
    project: Project = DEFAULT_PROJECT,
    stall_after: StallAfter = STALL_AFTER_S,
) -> None:
    """Write a detector in formats of others, each compared with the original."""
    identity = _identity(run_dir, run_id, attempt, report_to, mlflow, name, project)
    asked = begin_attempt(spec, task="export", identity=identity, run_dir=run_dir)
    assert isinstance(asked, ExportSpec)
    from workers import compat

    compat.apply()
    from workers.export.job import export as run_export

    folder = run_dir.resolve()
    sys.exit(run_export(asked, identity=identity, run_dir=folder, stall_after_s=stall_after))


def probe(
    spec: SpecFile,
    run_dir: RunDir,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for the mAP of teachers, measured once each.")
    ] = None,
    run_id: RunIdOption = "",
    attempt: Attempt = 1,
    report_to: ReportTo = None,
    mlflow: MlflowUrl = None,
    name: NameOption = None,
    project: Project = DEFAULT_PROJECT,
    stall_after: StallAfter = STALL_AFTER_S,
) -> None:
    """Look before a sweep: which parameters move anything, what a step costs."""
    identity = _identity(run_dir, run_id, attempt, report_to, mlflow, name, project)
    asked = begin_attempt(spec, task="probe", identity=identity, run_dir=run_dir)
    assert isinstance(asked, ProbeSpec)
    from workers import compat

    compat.apply()
    from workers.probe.job import probe as run_probe

    sys.exit(
        run_probe(
            asked,
            identity=identity,
            run_dir=run_dir.resolve(),
            cache=cache,
            stall_after_s=stall_after,
        )
    )


def report(
    spec: SpecFile,
    run_dir: RunDir,
    run_id: RunIdOption = "",
    attempt: Attempt = 1,
    report_to: ReportTo = None,
    mlflow: MlflowUrl = None,
    name: NameOption = None,
    project: Project = DEFAULT_PROJECT,
    stall_after: StallAfter = STALL_AFTER_S,
) -> None:
    """Write pages about a run or a sweep: did distillation help, by how much, where not."""
    identity = _identity(run_dir, run_id, attempt, report_to, mlflow, name, project)
    asked = begin_attempt(spec, task="report", identity=identity, run_dir=run_dir)
    assert isinstance(asked, ReportSpec)
    from workers import compat

    compat.apply()
    from workers.report.job import report as write_report

    folder = run_dir.resolve()
    sys.exit(write_report(asked, identity=identity, run_dir=folder, stall_after_s=stall_after))


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


def tidy(
    report_to: Annotated[str, typer.Option(help="The service's address.")],
    spared: Annotated[
        list[str] | None,
        typer.Option("--except", help="An attempt that is left alone, by its submission id."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token that the service wants.")
    ] = None,
) -> None:
    """End what attempts that are over left behind on this node."""
    silence_libraries()
    from workers.tidying import tidy as tidy_node

    sys.exit(tidy_node(report_to, spared=spared or (), token_file=token_file, say=print))


def drive(
    sweep: Annotated[str, typer.Option(help="The sweep's id.")],
    report_to: Annotated[str, typer.Option(help="The service's address.")],
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token that the service wants.")
    ] = None,
    look_every: Annotated[
        float, typer.Option(help="Seconds between two looks at the trials.", min=0.05)
    ] = 1.0,
) -> None:
    """Decide for a sweep which trials begin and which stop, until it is closed.

    It keeps nothing: killed, it is started again and goes on with the list at the service.
    """
    write_log(also_print=True)
    silence_libraries()
    guard_own_cluster()
    from workers.search.driver import Sweep
    from workers.search.driver import drive as drive_sweep

    sys.exit(drive_sweep(Sweep(sweep, report_to, token_file, look_every)))


def _identity(
    run_dir: Path,
    run_id: str,
    attempt: int,
    report_to: str | None,
    mlflow: str | None,
    name: str | None,
    project: str,
) -> Identity:
    return Identity(
        run_id=run_id or run_dir.resolve().name,
        attempt=attempt,
        report_url=report_to,
        mlflow_url=mlflow,
        name=name,
        project=project,
    )
