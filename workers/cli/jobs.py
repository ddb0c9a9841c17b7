"""Commands of `tandem-worker` that do not train: `evaluate`, `probe`, `sweep_driver` and others."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from configs.protocol.names import DEFAULT_PROJECT, ExitCode
from configs.spec.jobs import Task
from workers.cli.options import (
    AttemptOption,
    MlflowUrlOption,
    NameOption,
    ProjectOption,
    RunDirOption,
    RunIdOption,
    ServiceUrlOption,
    SpecFileOption,
    StallTimeoutOption,
)
from workers.cli.startup import prepare_attempt, secure_local_cluster
from workers.process.logs import configure_logging, silence_libraries
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S
from workers.telemetry.identity import AttemptIdentity

JobLoader = Callable[[], Callable[..., ExitCode]]
"""Imports what does a job, and with it torch and mmdet: not before it is asked for."""


def register_commands(app: typer.Typer) -> None:
    """Adds the commands."""
    for task, (loads, says) in _JOBS.items():
        app.command(name=task, help=says)(_job(task, loads))
    for command in (probe, predict, cleanup, sweep_driver):
        app.command()(command)


def _job(task: Task, loads: JobLoader) -> Callable[..., None]:
    """The command of a job that takes its spec and nothing else."""

    def command(
        spec: SpecFileOption,
        run_dir: RunDirOption,
        run_id: RunIdOption = "",
        attempt: AttemptOption = 1,
        service_url: ServiceUrlOption = None,
        mlflow_url: MlflowUrlOption = None,
        name: NameOption = None,
        project: ProjectOption = DEFAULT_PROJECT,
        stall_timeout: StallTimeoutOption = DEFAULT_STALL_TIMEOUT_S,
    ) -> None:
        identity = _identity(run_dir, run_id, attempt, service_url, mlflow_url, name, project)
        _do(task, loads, spec, identity=identity, run_dir=run_dir, stall_timeout_s=stall_timeout)

    return command


def probe(
    spec: SpecFileOption,
    run_dir: RunDirOption,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for the mAP of teachers, measured once each.")
    ] = None,
    run_id: RunIdOption = "",
    attempt: AttemptOption = 1,
    service_url: ServiceUrlOption = None,
    mlflow_url: MlflowUrlOption = None,
    name: NameOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    stall_timeout: StallTimeoutOption = DEFAULT_STALL_TIMEOUT_S,
) -> None:
    """Look before a sweep: which parameters move anything, what a step costs."""
    identity = _identity(run_dir, run_id, attempt, service_url, mlflow_url, name, project)

    def loads() -> Callable[..., ExitCode]:
        from workers.jobs.probe import probe as run_probe

        return partial(run_probe, cache=cache)

    _do("probe", loads, spec, identity=identity, run_dir=run_dir, stall_timeout_s=stall_timeout)


def _do(
    task: Task,
    loads: JobLoader,
    spec: Path,
    *,
    identity: AttemptIdentity,
    run_dir: Path,
    stall_timeout_s: float,
) -> None:
    """Do a job, and end the process as it ended."""
    asked = prepare_attempt(spec, task=task, identity=identity, run_dir=run_dir)
    from workers.process import compat

    compat.apply_patches()
    folder = run_dir.resolve()
    sys.exit(loads()(asked, identity=identity, run_dir=folder, stall_timeout_s=stall_timeout_s))


def _evaluation() -> Callable[..., ExitCode]:
    from workers.jobs.evaluate import evaluate

    return evaluate


def _export() -> Callable[..., ExitCode]:
    from workers.jobs.export import export

    return export


def _report() -> Callable[..., ExitCode]:
    from workers.jobs.report import report

    return report


_JOBS: dict[Task, tuple[JobLoader, str]] = {
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

    compat.apply_patches()
    from workers.errors import WorkerError
    from workers.export.tandem_runtime import ImageDecodeError
    from workers.jobs.predict import load_detector
    from workers.jobs.predict import predict as draw

    try:
        for prediction in draw(load_detector(model), images, out=out, score=score):
            print(f"{prediction.image} -> {prediction.picture}")
            for line in prediction.lines():
                print(f"  {line}")
    except (ImageDecodeError, WorkerError) as error:
        print(error, file=sys.stderr)
        sys.exit(ExitCode.REFUSED)


def cleanup(
    service_url: Annotated[str, typer.Option(help="The service's address.")],
    exclude: Annotated[
        list[str] | None,
        typer.Option("--except", help="An attempt that is left alone, by its submission id."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token that the service wants.")
    ] = None,
) -> None:
    """End what attempts that are over left behind on this node."""
    silence_libraries()
    from workers.attempt.cleanup import clean_up_node as tidy_node

    sys.exit(tidy_node(service_url, exclude=exclude or (), token_file=token_file, notify=print))


def sweep_driver(
    sweep: Annotated[str, typer.Option(help="The sweep's id.")],
    service_url: Annotated[str, typer.Option(help="The service's address.")],
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token that the service wants.")
    ] = None,
    poll_interval: Annotated[
        float, typer.Option(help="Seconds between two looks at the trials.", min=0.05)
    ] = 1.0,
) -> None:
    """Decide for a sweep which trials begin and which stop, until it is closed.

    It keeps nothing: killed, it is started again and goes on with the list at the service.
    """
    configure_logging(to_stderr=True)
    silence_libraries()
    secure_local_cluster()
    from workers.search.driver import DriverConfig
    from workers.search.driver import run_driver as drive_sweep

    sys.exit(drive_sweep(DriverConfig(sweep, service_url, token_file, poll_interval)))


def _identity(
    run_dir: Path,
    run_id: str,
    attempt: int,
    service_url: str | None,
    mlflow_url: str | None,
    name: str | None,
    project: str,
) -> AttemptIdentity:
    return AttemptIdentity(
        run_id=run_id or run_dir.resolve().name,
        attempt=attempt,
        service_url=service_url,
        mlflow_url=mlflow_url,
        name=name,
        project=project,
    )
