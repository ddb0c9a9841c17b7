"""`tandem-worker`: the command that runs on a node; works in a shell without the service, too."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.protocol.names import DEFAULT_PROJECT, ExitCode
from configs.terminal_output import escape_unprintable
from configs.version_option import create_version_option
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
from workers.process.home_folder import ensure_home
from workers.process.imports import pause_garbage_collection
from workers.process.logs import silence_libraries
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S

if TYPE_CHECKING:
    from configs.spec.run import RunSpec
    from workers.attempt.files import ProcessSpec
    from workers.telemetry.identity import AttemptIdentity

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root(
    version: Annotated[bool, create_version_option("tandem-worker")] = False,
) -> None:
    """Trains detectors and imports datasets; usually the service starts it."""


@app.command()
def train(
    spec: SpecFileOption,
    run_dir: RunDirOption,
    run_id: RunIdOption = "",
    attempt: AttemptOption = 1,
    processes: Annotated[
        int | None, typer.Option(help="Train with fewer processes than in the spec.", min=1)
    ] = None,
    service_url: ServiceUrlOption = None,
    mlflow_url: MlflowUrlOption = None,
    preset: Annotated[
        str | None, typer.Option(help="The preset that the spec was made from.")
    ] = None,
    name: NameOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    stall_timeout: StallTimeoutOption = DEFAULT_STALL_TIMEOUT_S,
    avoid: Annotated[
        list[str] | None,
        typer.Option(
            help="Id of a Ray node to exclude, in runs with several processes; repeatable."
        ),
    ] = None,
) -> None:
    """Train one run; started again with the same folder, it resumes from its last checkpoint."""
    from configs.spec.run import RunSpec
    from workers.cli.startup import prepare_attempt
    from workers.telemetry.identity import AttemptIdentity

    identity = AttemptIdentity(
        run_id=run_id or run_dir.resolve().name,
        attempt=attempt,
        service_url=service_url,
        mlflow_url=mlflow_url,
        preset=preset,
        name=name,
        project=project,
    )
    run_spec = prepare_attempt(spec, task="train", identity=identity, run_dir=run_dir)
    assert isinstance(run_spec, RunSpec)
    folder = run_dir.resolve()
    num_processes = processes or run_spec.resources.processes
    if num_processes == 1:
        sys.exit(
            _train_in_process(
                run_spec, identity=identity, run_dir=folder, stall_timeout_s=stall_timeout
            )
        )
    from workers.attempt.files import ProcessSpec, complete_spool_bytes

    process_spec = ProcessSpec(
        spec=run_spec,
        identity=identity,
        run_dir=str(folder),
        spool_offset=complete_spool_bytes(folder),
        stall_timeout_s=stall_timeout,
    )
    sys.exit(_train_on_ray(process_spec, num_processes=num_processes, avoid=tuple(avoid or ())))


@app.command(name="train-pack")
def train_pack(
    job: Annotated[Path, typer.Argument(help="The pack's job, as JSON.", exists=True)],
) -> None:
    """Train several runs in one process with one teacher; each resumes from its checkpoint."""
    from workers.cli.startup import prepare_pack

    pack_job, specs = prepare_pack(job)
    with pause_garbage_collection():
        from workers.process import compat

        compat.apply_patches()
        from workers.attempt.stop import Termination
        from workers.jobs.train_pack import train_pack as run_pack

    termination = Termination()
    termination.install()
    sys.exit(run_pack(pack_job, specs, termination=termination))


def _train_in_process(
    spec: "RunSpec", *, identity: "AttemptIdentity", run_dir: Path, stall_timeout_s: float
) -> ExitCode:
    with pause_garbage_collection():
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


def _train_on_ray(
    process_spec: "ProcessSpec", *, num_processes: int, avoid: tuple[str, ...]
) -> ExitCode:
    from workers.cli.startup import secure_local_cluster

    secure_local_cluster()
    from workers.ray_train.launcher import Placement, launch_processes

    return launch_processes(process_spec, Placement(num_processes, avoid))


@app.command()
def flush(
    run_dir: RunDirOption,
    timeout_s: Annotated[float, typer.Option(help="Give up after so many seconds.")] = 60.0,
) -> None:
    """Deliver a run's pending records to the service and MLflow."""
    silence_libraries()
    from workers.errors import IncompatibleRunFolder
    from workers.telemetry.reporter import NotARunFolder, flush_run

    try:
        is_flushed = flush_run(run_dir.resolve(), timeout_s=timeout_s)
    except (NotARunFolder, IncompatibleRunFolder) as error:
        print(error, file=sys.stderr)
        sys.exit(ExitCode.REFUSED)
    print("All records are delivered." if is_flushed else "Records are pending; try again later.")
    sys.exit(ExitCode.SUCCEEDED if is_flushed else ExitCode.INTERRUPTED)


@app.command(name="make-teacher")
def make_teacher_of(
    run_dir: RunDirOption,
    name: Annotated[str, typer.Option(help="The teacher's name.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights and the card.")],
) -> None:
    """Make a teacher from a finished run: half-precision weights and a card with their mAP."""
    silence_libraries()
    from workers.process import compat

    compat.apply_patches()
    from workers.errors import WorkerError
    from workers.jobs.make_teacher import make_teacher

    out.mkdir(parents=True, exist_ok=True)
    try:
        card = make_teacher(run_dir.resolve(), name=name, out=out)
    except WorkerError as error:
        print(error, file=sys.stderr)
        sys.exit(ExitCode.REFUSED)
    print(f"{out / name}.pth: mAP {card['measured_map']}, SHA-256 {card['sha256']}")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print findings as JSON.")] = False,
    reuse_proof: Annotated[
        bool,
        typer.Option(
            "--reuse-proof",
            help="Do not test mmcv's operators if no library has changed since they passed.",
        ),
    ] = False,
    service_url: ServiceUrlOption = None,
    mlflow_url: MlflowUrlOption = None,
) -> None:
    """Check whether this machine can train; with addresses, also whether runs reach them."""
    silence_libraries()
    from workers.cli.connections import check_connections
    from workers.cli.doctor import run_checks
    from workers.machine.proof import PROOF_FILE

    findings = run_checks(proof_file=PROOF_FILE, reuses_proof=reuse_proof)
    findings += check_connections(service_url=service_url, mlflow_url=mlflow_url)
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
    """Entry point of `tandem-worker`; registers subcommands whose imports are slow on demand."""
    escape_unprintable()
    ensure_home()
    # httpx imports its own command line with rich and pygments, unless that "cannot be imported".
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
    if sys.argv[1:2] == ["data"]:
        from workers.cli.layout_imports import app as data_app

        app.add_typer(data_app, name="data")
    if sys.argv[1:2] == ["teachers"]:
        silence_libraries()
        from workers.process import compat

        compat.apply_patches()
        from workers.cli.teachers import app as teachers_app

        app.add_typer(teachers_app, name="teachers")
    app()
