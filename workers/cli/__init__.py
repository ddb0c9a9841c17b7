"""`tandem-worker`: what runs on a node. Works alone in a shell, without the service."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.protocol.names import DEFAULT_PROJECT, ExitCode
from configs.spec.run import RunSpec
from workers.cli import jobs
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
from workers.cli.startup import prepare_attempt, prepare_pack, secure_local_cluster
from workers.process.logs import silence_libraries
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S
from workers.telemetry.identity import AttemptIdentity

if TYPE_CHECKING:
    from workers.attempt.files import ProcessSpec

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Trains detectors and keeps datasets; the service starts it, and so can you."""


@app.command()
def train(
    spec: SpecFileOption,
    run_dir: RunDirOption,
    run_id: RunIdOption = "",
    attempt: AttemptOption = 1,
    processes: Annotated[
        int | None, typer.Option(help="Train with fewer processes than the spec says.", min=1)
    ] = None,
    service_url: ServiceUrlOption = None,
    mlflow_url: MlflowUrlOption = None,
    preset: Annotated[str | None, typer.Option(help="The preset the spec came from.")] = None,
    name: NameOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    stall_timeout: StallTimeoutOption = DEFAULT_STALL_TIMEOUT_S,
    avoid: Annotated[
        list[str] | None,
        typer.Option(help="A node of Ray where no process of several is to be; repeatable."),
    ] = None,
) -> None:
    """Train one run; started again with the same folder, it goes on after its last epoch."""
    identity = AttemptIdentity(
        run_id=run_id or run_dir.resolve().name,
        attempt=attempt,
        service_url=service_url,
        mlflow_url=mlflow_url,
        preset=preset,
        name=name,
        project=project,
    )
    asked = prepare_attempt(spec, task="train", identity=identity, run_dir=run_dir)
    assert isinstance(asked, RunSpec)
    folder = run_dir.resolve()
    count = processes or asked.resources.processes
    if count == 1:
        sys.exit(
            _train_here(asked, identity=identity, run_dir=folder, stall_timeout_s=stall_timeout)
        )
    from workers.attempt.files import ProcessSpec, complete_spool_bytes

    part = ProcessSpec(
        spec=asked,
        identity=identity,
        run_dir=str(folder),
        spool_offset=complete_spool_bytes(folder),
        stall_timeout_s=stall_timeout,
    )
    sys.exit(_train_on_ray(part, count=count, avoid=tuple(avoid or ())))


@app.command(name="train-pack")
def train_pack(
    order: Annotated[Path, typer.Argument(help="The pack's order, as JSON.", exists=True)],
) -> None:
    """Train several runs side by side with one teacher; each goes on after its last checkpoint."""
    asked, specs = prepare_pack(order)
    from workers.process import compat

    compat.apply_patches()
    from workers.attempt.stop import Termination
    from workers.jobs.train_pack import train_pack as train_side_by_side

    termination = Termination()
    termination.install()
    sys.exit(train_side_by_side(asked, specs, termination=termination))


def _train_here(
    spec: RunSpec, *, identity: AttemptIdentity, run_dir: Path, stall_timeout_s: float
) -> ExitCode:
    from workers.process import compat

    compat.apply_patches()
    from workers.attempt.stop import Termination
    from workers.jobs.train import train as train_run

    termination = Termination()
    termination.install()
    return train_run(
        spec,
        identity=identity,
        run_dir=run_dir,
        termination=termination,
        stall_timeout_s=stall_timeout_s,
    )


def _train_on_ray(part: "ProcessSpec", *, count: int, avoid: tuple[str, ...]) -> ExitCode:
    secure_local_cluster()
    from workers.ray_train.launcher import Placement, launch_processes

    return launch_processes(part, Placement(count, avoid))


@app.command()
def flush(
    run_dir: RunDirOption,
    timeout_s: Annotated[float, typer.Option(help="How long to try, in seconds.")] = 60.0,
) -> None:
    """Bring records that a run left behind to the service and MLflow."""
    silence_libraries()
    from workers.telemetry.reporter import NotARunFolder
    from workers.telemetry.reporter import flush_run as ship_records

    try:
        arrived = ship_records(run_dir.resolve(), timeout_s=timeout_s)
    except NotARunFolder as unknown:
        print(unknown, file=sys.stderr)
        sys.exit(ExitCode.REFUSED)
    print("Everything arrived." if arrived else "Records are left; try again later.")
    sys.exit(ExitCode.SUCCEEDED if arrived else ExitCode.INTERRUPTED)


@app.command(name="make-teacher")
def make_teacher_of(
    run_dir: RunDirOption,
    name: Annotated[str, typer.Option(help="What the teacher is called.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights and their card.")],
) -> None:
    """Make a teacher out of a finished run: half-precision weights and a card with their mAP."""
    silence_libraries()
    from workers.process import compat

    compat.apply_patches()
    from workers.jobs.make_teacher import make_teacher

    out.mkdir(parents=True, exist_ok=True)
    card = make_teacher(run_dir.resolve(), name=name, out=out)
    print(f"{out / name}.pth: mAP {card['measured_map']}, SHA-256 {card['sha256']}")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check what training needs on this machine."""
    silence_libraries()
    from workers.cli.doctor import run_checks

    findings = run_checks()
    if as_json:
        print(json.dumps([finding.model_dump() for finding in findings]))
    else:
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'BAD'}  {finding.name}: {finding.detail}")
            if not finding.ok:
                print(f"     {finding.advice}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


jobs.register_commands(app)


def main() -> None:
    """The console script."""
    if sys.argv[1:2] == ["data"]:
        from workers.cli.data import app as data_app

        app.add_typer(data_app, name="data")
    if sys.argv[1:2] == ["teacher"]:
        silence_libraries()
        from workers.process import compat

        compat.apply_patches()
        from workers.cli.teachers import app as teacher_app

        app.add_typer(teacher_app, name="teacher")
    app()
