"""`tandem-worker`: what runs on a node. Works alone in a shell, without the service."""

import json
import os
import secrets
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.spec import ExitCode, RunSpec
from workers import commands
from workers.logs import silence_libraries
from workers.shell import begin_attempt

if TYPE_CHECKING:
    from workers.reporting.identity import Identity

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

RunDir = Annotated[Path, typer.Option(help="Where checkpoints, records and logs of the run lie.")]


@app.callback()
def _root() -> None:
    """Trains detectors and keeps datasets; the service starts it, and so can you."""


@app.command()
def train(
    spec: Annotated[Path, typer.Option(help="The run's spec, as YAML or JSON.", exists=True)],
    run_dir: RunDir,
    run_id: Annotated[str, typer.Option(help="The run's id.")] = "",
    attempt: Annotated[int, typer.Option(help="Which try of the run this is.")] = 1,
    processes: Annotated[
        int | None, typer.Option(help="Train with fewer processes than the spec says.", min=1)
    ] = None,
    report_to: Annotated[str | None, typer.Option(help="The service's address.")] = None,
    mlflow: Annotated[str | None, typer.Option(help="The MLflow server's address.")] = None,
    preset: Annotated[str | None, typer.Option(help="The preset the spec came from.")] = None,
    name: Annotated[str | None, typer.Option(help="What the run is called in MLflow.")] = None,
) -> None:
    """Train one run; started again with the same folder, it goes on after its last epoch."""
    asked = begin_attempt(spec, task="train", run_dir=run_dir, number=attempt)
    assert isinstance(asked, RunSpec)
    from workers.reporting.identity import Identity

    identity = Identity(
        run_id=run_id or run_dir.resolve().name,
        attempt=attempt,
        report_url=report_to,
        mlflow_url=mlflow,
        preset=preset,
        name=name,
    )
    count = processes or asked.resources.processes
    begin = _train_here if count == 1 else partial(_train_on_ray, count=count)
    sys.exit(begin(asked, identity=identity, run_dir=run_dir.resolve()))


def _train_here(spec: RunSpec, *, identity: "Identity", run_dir: Path) -> ExitCode:
    from workers import compat

    compat.apply()
    from workers.hooks.control import Termination
    from workers.train import train as train_run

    termination = Termination()
    termination.install()
    return train_run(spec, identity=identity, run_dir=run_dir, termination=termination)


def _train_on_ray(spec: RunSpec, *, identity: "Identity", run_dir: Path, count: int) -> ExitCode:
    if "RAY_ADDRESS" not in os.environ:
        # A cluster of its own lets nobody else in. Ray reads this while it is imported, and by
        # itself would keep a token in the home folder.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    from workers.launch import launch

    return launch(spec, identity=identity, run_dir=run_dir, count=count)


@app.command()
def ship(
    run_dir: RunDir,
    patience_s: Annotated[float, typer.Option(help="How long to try, in seconds.")] = 60.0,
) -> None:
    """Bring records that a run left behind to the service and MLflow."""
    silence_libraries()
    from workers.reporting.reporter import RunFolderUnknown
    from workers.reporting.reporter import ship as ship_records

    try:
        arrived = ship_records(run_dir.resolve(), patience_s=patience_s)
    except RunFolderUnknown as unknown:
        print(unknown, file=sys.stderr)
        sys.exit(ExitCode.REFUSED)
    print("Everything arrived." if arrived else "Records are left; try again later.")
    sys.exit(ExitCode.SUCCEEDED if arrived else ExitCode.INTERRUPTED)


@app.command()
def pack(
    run_dir: RunDir,
    name: Annotated[str, typer.Option(help="What the teacher is called.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights and their card.")],
) -> None:
    """Make a teacher out of a finished run: half-precision weights and a card with their mAP."""
    silence_libraries()
    from workers import compat

    compat.apply()
    from workers.packing import pack_teacher

    out.mkdir(parents=True, exist_ok=True)
    card = pack_teacher(run_dir.resolve(), name=name, out=out)
    print(f"{out / name}.pth: mAP {card['measured_map']}, SHA-256 {card['sha256']}")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check what training needs on this machine."""
    silence_libraries()
    from workers.doctor import examine

    findings = examine()
    if as_json:
        print(json.dumps([finding.model_dump() for finding in findings]))
    else:
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'BAD'}  {finding.name}: {finding.detail}")
            if not finding.ok:
                print(f"     {finding.advice}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


commands.register(app)


def main() -> None:
    """The console script."""
    if sys.argv[1:2] == ["data"]:
        from workers.data.commands import app as data_app

        app.add_typer(data_app, name="data")
    if sys.argv[1:2] == ["teacher"]:
        silence_libraries()
        from workers import compat

        compat.apply()
        from workers.teachers.commands import app as teacher_app

        app.add_typer(teacher_app, name="teacher")
    app()
