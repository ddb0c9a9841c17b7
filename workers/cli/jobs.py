"""Commands of `tandem-worker` that do not train: `evaluate`, `probe`, `sweep-driver` and others."""

import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.protocol.names import DEFAULT_PROJECT, ExitCode
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
from workers.process.imports import pause_garbage_collection
from workers.process.logs import configure_logging, silence_libraries
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S

if TYPE_CHECKING:
    from configs.spec.base import Task
    from workers.telemetry.identity import AttemptIdentity

JobLoader = Callable[[], Callable[..., ExitCode]]
"""Imports and returns a job's function; only then are torch and mmdet imported."""


def register_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for task, (load_job, help_text) in _JOBS.items():
        app.command(name=task, help=help_text)(_build_command(task, load_job))
    for command in (probe, profile, predict, cleanup, sweep_driver, methods):
        app.command()(command)


def _build_command(task: "Task", load_job: JobLoader) -> Callable[..., None]:
    """A command for a job that needs only its spec."""

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
        identity = _build_identity(run_dir, run_id, attempt, service_url, mlflow_url, name, project)
        _run(
            task, load_job, spec, identity=identity, run_dir=run_dir, stall_timeout_s=stall_timeout
        )

    return command


def probe(
    spec: SpecFileOption,
    run_dir: RunDirOption,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that caches the measured mAP of teachers.")
    ] = None,
    run_id: RunIdOption = "",
    attempt: AttemptOption = 1,
    service_url: ServiceUrlOption = None,
    mlflow_url: MlflowUrlOption = None,
    name: NameOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    stall_timeout: StallTimeoutOption = DEFAULT_STALL_TIMEOUT_S,
) -> None:
    """Before a sweep, measure which parameters have an effect and what a step costs."""
    identity = _build_identity(run_dir, run_id, attempt, service_url, mlflow_url, name, project)

    def load_job() -> Callable[..., ExitCode]:
        from workers.jobs.probe import probe as run_probe

        return partial(run_probe, cache=cache)

    _run("probe", load_job, spec, identity=identity, run_dir=run_dir, stall_timeout_s=stall_timeout)


def _run(
    task: "Task",
    load_job: JobLoader,
    spec_file: Path,
    *,
    identity: "AttemptIdentity",
    run_dir: Path,
    stall_timeout_s: float,
) -> None:
    """Run a job, and exit with its exit code."""
    from workers.cli.startup import prepare_attempt

    spec = prepare_attempt(spec_file, task=task, identity=identity, run_dir=run_dir)
    with pause_garbage_collection():
        from workers.process import compat

        compat.apply_patches()
        run_job = load_job()
    sys.exit(
        run_job(spec, identity=identity, run_dir=run_dir.resolve(), stall_timeout_s=stall_timeout_s)
    )


def _load_evaluate() -> Callable[..., ExitCode]:
    from workers.jobs.evaluate import evaluate

    return evaluate


def _load_export() -> Callable[..., ExitCode]:
    from workers.jobs.export import export

    return export


def _load_report() -> Callable[..., ExitCode]:
    from workers.jobs.report import report

    return report


_JOBS: "dict[Task, tuple[JobLoader, str]]" = {
    "evaluate": (_load_evaluate, "Evaluate a detector on a dataset: COCO metrics, curves, speed."),
    "export": (
        _load_export,
        "Export a detector to other formats, and compare each with the original.",
    ),
    "report": (
        _load_report,
        "Write a report on a run or a sweep: whether distillation helped, by how much, where not.",
    ),
}


def profile(
    spec: Annotated[
        Path, typer.Argument(help="A run's spec, as YAML or JSON: its spec.json.", exists=True)
    ],
    steps: Annotated[int, typer.Option(help="Number of steps to measure.", min=1)] = 5,
    trace: Annotated[
        Path, typer.Option(help="File for the trace of one step, for ui.perfetto.dev.")
    ] = Path("step-trace.json"),
) -> None:
    """Measure the parts of a training step: teacher, student, losses, backward pass, update."""
    silence_libraries()
    from configs.spec.run import RunSpec
    from workers.cli.startup import read_spec

    run_spec = read_spec(spec, task="train", run_dir=spec.parent)
    assert isinstance(run_spec, RunSpec)
    from workers.process import compat

    compat.apply_patches()
    from workers.cli.profile_output import print_profile
    from workers.errors import WorkerError
    from workers.jobs.profile import profile_run

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler logs to stderr
    try:
        with contextlib.redirect_stdout(None):  # pycocotools says what it reads
            measured = profile_run(run_spec, steps=steps, trace=trace)
    except WorkerError as error:
        print(error, file=sys.stderr)
        sys.exit(ExitCode.REFUSED)
    print_profile(measured)
    print(f"Trace of one step: {trace} (ui.perfetto.dev or chrome://tracing opens it)")


def predict(
    model: Annotated[Path, typer.Argument(help="An .onnx file, an export's folder, or a run's.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder for the images with boxes.")] = Path(
        "predictions"
    ),
    score: Annotated[
        float, typer.Option(help="Minimal score of the boxes that are drawn.", min=0, max=1)
    ] = 0.3,
) -> None:
    """Draw a detector's predictions on images."""
    silence_libraries()
    from workers.process import compat

    compat.apply_patches()
    from workers.errors import WorkerError
    from workers.export.tandem_runtime import ImageFormatError
    from workers.jobs.predict import load_detector
    from workers.jobs.predict import predict as draw

    try:
        for prediction in draw(load_detector(model), images, out=out, score=score):
            print(f"{prediction.image} -> {prediction.picture}")
            for line in prediction.lines():
                print(f"  {line}")
    except (ImageFormatError, WorkerError) as error:
        print(error, file=sys.stderr)
        sys.exit(ExitCode.REFUSED)


def cleanup(
    service_url: Annotated[str, typer.Option(help="The service's URL.")],
    exclude: Annotated[
        list[str] | None,
        typer.Option("--except", help="Submission id of an attempt to leave alone; repeatable."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with a token for the service.")
    ] = None,
) -> None:
    """Terminate processes of finished attempts on this node."""
    silence_libraries()
    from workers.attempt.cleanup import clean_up_node

    sys.exit(clean_up_node(service_url, exclude=exclude or (), token_file=token_file, notify=print))


def sweep_driver(
    sweep: Annotated[str, typer.Option(help="The sweep's id.")],
    service_url: Annotated[str, typer.Option(help="The service's URL.")],
    token_file: Annotated[
        Path | None, typer.Option(help="File with a token for the service.")
    ] = None,
    poll_interval: Annotated[
        float, typer.Option(help="Interval of polling the trials, in seconds.", min=0.05)
    ] = 1.0,
) -> None:
    """Decide which trials of a sweep start and which stop, until it is closed.

    Its only state is the sweep log at the service, from which a restarted driver continues.
    """
    from workers.cli.startup import secure_local_cluster

    configure_logging(to_stderr=True)
    silence_libraries()
    secure_local_cluster()
    from workers.search.driver import DriverConfig, run_driver

    sys.exit(run_driver(DriverConfig(sweep, service_url, token_file, poll_interval)))


def _build_identity(
    run_dir: Path,
    run_id: str,
    attempt: int,
    service_url: str | None,
    mlflow_url: str | None,
    name: str | None,
    project: str,
) -> "AttemptIdentity":
    from workers.telemetry.identity import AttemptIdentity

    return AttemptIdentity(
        run_id=run_id or run_dir.resolve().name,
        attempt=attempt,
        service_url=service_url,
        mlflow_url=mlflow_url,
        name=name,
        project=project,
    )


def methods(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print those of other packages as JSON.")
    ] = False,
) -> None:
    """List the distillation methods of this environment, and check their golden cases."""
    silence_libraries()
    from workers.process import compat

    compat.apply_patches()
    from workers.cli.methods import print_catalog, print_methods

    sys.exit(print_catalog() if as_json else print_methods())
