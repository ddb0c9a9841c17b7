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
from workers.cli.startup import begin_attempt, begin_pack, guard_own_cluster
from workers.process.logs import silence_libraries
from workers.telemetry.heartbeat import STALL_AFTER_S
from workers.telemetry.identity import Identity

if TYPE_CHECKING:
    from workers.attempt.files import Part

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Trains detectors and keeps datasets; the service starts it, and so can you."""


@app.command()
def train(
    spec: SpecFile,
    run_dir: RunDir,
    run_id: RunIdOption = "",
    attempt: Attempt = 1,
    processes: Annotated[
        int | None, typer.Option(help="Train with fewer processes than the spec says.", min=1)
    ] = None,
    report_to: ReportTo = None,
    mlflow: MlflowUrl = None,
    preset: Annotated[str | None, typer.Option(help="The preset the spec came from.")] = None,
    name: NameOption = None,
    project: Project = DEFAULT_PROJECT,
    stall_after: StallAfter = STALL_AFTER_S,
    avoid: Annotated[
        list[str] | None,
        typer.Option(help="A node of Ray where no process of several is to be; repeatable."),
    ] = None,
) -> None:
    """Train one run; started again with the same folder, it goes on after its last epoch."""
    identity = Identity(
        run_id=run_id or run_dir.resolve().name,
        attempt=attempt,
        report_url=report_to,
        mlflow_url=mlflow,
        preset=preset,
        name=name,
        project=project,
    )
    asked = begin_attempt(spec, task="train", identity=identity, run_dir=run_dir)
    assert isinstance(asked, RunSpec)
    folder = run_dir.resolve()
    count = processes or asked.resources.processes
    if count == 1:
        sys.exit(_train_here(asked, identity=identity, run_dir=folder, stall_after_s=stall_after))
    from workers.attempt.files import Part, whole_lines

    part = Part(
        spec=asked,
        identity=identity,
        run_dir=str(folder),
        spool_from=whole_lines(folder),
        stall_after_s=stall_after,
    )
    sys.exit(_train_on_ray(part, count=count, avoid=tuple(avoid or ())))


@app.command(name="train-pack")
def train_pack(
    order: Annotated[Path, typer.Argument(help="The pack's order, as JSON.", exists=True)],
) -> None:
    """Train several runs side by side with one teacher; each goes on after its last checkpoint."""
    asked, specs = begin_pack(order)
    from workers.process import compat

    compat.apply()
    from workers.attempt.stop import Termination
    from workers.jobs.train_pack import train_pack as train_side_by_side

    termination = Termination()
    termination.install()
    sys.exit(train_side_by_side(asked, specs, termination=termination))


def _train_here(
    spec: RunSpec, *, identity: Identity, run_dir: Path, stall_after_s: float
) -> ExitCode:
    from workers.process import compat

    compat.apply()
    from workers.attempt.stop import Termination
    from workers.jobs.train import train as train_run

    termination = Termination()
    termination.install()
    return train_run(
        spec,
        identity=identity,
        run_dir=run_dir,
        termination=termination,
        stall_after_s=stall_after_s,
    )


def _train_on_ray(part: "Part", *, count: int, avoid: tuple[str, ...]) -> ExitCode:
    guard_own_cluster()
    from workers.ray_train.launcher import Placement, launch

    return launch(part, Placement(count, avoid))


@app.command()
def ship(
    run_dir: RunDir,
    patience_s: Annotated[float, typer.Option(help="How long to try, in seconds.")] = 60.0,
) -> None:
    """Bring records that a run left behind to the service and MLflow."""
    silence_libraries()
    from workers.telemetry.reporter import RunFolderUnknown
    from workers.telemetry.reporter import ship as ship_records

    try:
        arrived = ship_records(run_dir.resolve(), patience_s=patience_s)
    except RunFolderUnknown as unknown:
        print(unknown, file=sys.stderr)
        sys.exit(ExitCode.REFUSED)
    print("Everything arrived." if arrived else "Records are left; try again later.")
    sys.exit(ExitCode.SUCCEEDED if arrived else ExitCode.INTERRUPTED)


@app.command(name="make-teacher")
def make_teacher_of(
    run_dir: RunDir,
    name: Annotated[str, typer.Option(help="What the teacher is called.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights and their card.")],
) -> None:
    """Make a teacher out of a finished run: half-precision weights and a card with their mAP."""
    silence_libraries()
    from workers.process import compat

    compat.apply()
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
    from workers.cli.doctor import examine

    findings = examine()
    if as_json:
        print(json.dumps([finding.model_dump() for finding in findings]))
    else:
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'BAD'}  {finding.name}: {finding.detail}")
            if not finding.ok:
                print(f"     {finding.advice}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


jobs.register(app)


def main() -> None:
    """The console script."""
    if sys.argv[1:2] == ["data"]:
        from workers.cli.data import app as data_app

        app.add_typer(data_app, name="data")
    if sys.argv[1:2] == ["teacher"]:
        silence_libraries()
        from workers.process import compat

        compat.apply()
        from workers.cli.teachers import app as teacher_app

        app.add_typer(teacher_app, name="teacher")
    app()
