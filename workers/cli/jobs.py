"""Commands of `tandem-worker` that do not train: `evaluate`, `probe`, `drive` and others."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from configs.protocol.names import DEFAULT_PROJECT, ExitCode
from configs.spec.jobs import Task
from workers.cli.options import (
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
from workers.cli.startup import begin_attempt, guard_own_cluster
from workers.process.logs import silence_libraries, write_log
from workers.telemetry.heartbeat import STALL_AFTER_S
from workers.telemetry.identity import Identity

Loads = Callable[[], Callable[..., ExitCode]]
"""Imports what does a job, and with it torch and mmdet: not before it is asked for."""


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for task, (loads, says) in _JOBS.items():
        app.command(name=task, help=says)(_job(task, loads))
    for command in (probe, predict, tidy, drive):
        app.command()(command)


def _job(task: Task, loads: Loads) -> Callable[..., None]:
    """The command of a job that takes its spec and nothing else."""

    def command(
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
        identity = _identity(run_dir, run_id, attempt, report_to, mlflow, name, project)
        _do(task, loads, spec, identity=identity, run_dir=run_dir, stall_after_s=stall_after)

    return command


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

    def loads() -> Callable[..., ExitCode]:
        from workers.jobs.probe import probe as run_probe

        return partial(run_probe, cache=cache)

    _do("probe", loads, spec, identity=identity, run_dir=run_dir, stall_after_s=stall_after)


def _do(
    task: Task,
    loads: Loads,
    spec: Path,
    *,
    identity: Identity,
    run_dir: Path,
    stall_after_s: float,
) -> None:
    """Do a job, and end the process as it ended."""
    asked = begin_attempt(spec, task=task, identity=identity, run_dir=run_dir)
    from workers.process import compat

    compat.apply()
    folder = run_dir.resolve()
    sys.exit(loads()(asked, identity=identity, run_dir=folder, stall_after_s=stall_after_s))


def _evaluation() -> Callable[..., ExitCode]:
    from workers.jobs.evaluate import evaluate

    return evaluate


def _export() -> Callable[..., ExitCode]:
    from workers.jobs.export import export

    return export


def _report() -> Callable[..., ExitCode]:
    from workers.jobs.report import report

    return report


_JOBS: dict[Task, tuple[Loads, str]] = {
    "evaluate": (_evaluation, "Measure a detector on a dataset: COCO's numbers, curves, speed."),
    "export": (
        _export,
        "Write a detector in formats of others, each compared with the original.",
    ),
    "report": (
        _report,
        "Write pages about a run or a sweep: did distillation help, by how much, where not.",
    ),
}


def predict(
    model: Annotated[Path, typer.Argument(help="An .onnx file, an export's folder, or a run's.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Where pictures are drawn.")] = Path("predictions"),
    score: Annotated[float, typer.Option(help="The lowest score shown.", min=0, max=1)] = 0.3,
) -> None:
    """Draw what a detector finds in images."""
    silence_libraries()
    from workers.process import compat

    compat.apply()
    from workers.errors import WorkerError
    from workers.export.tandem_runtime import UnreadableImage
    from workers.jobs.predict import detector_at
    from workers.jobs.predict import predict as draw

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
    from workers.attempt.cleanup import tidy as tidy_node

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
