"""Startup of the commands of `tandem-worker`: spec, logs, process group, environment."""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from configs.catalog import SpecError, parse_job
from configs.protocol.names import Env, ExitCode, RunFile, attempt_log_path
from configs.protocol.pack import PackJob
from configs.spec.base import Task
from configs.spec.jobs import JobSpec, get_task
from configs.spec.run import RunSpec
from workers.attempt.cleanup import end_earlier_attempts
from workers.process.children import become_group_leader
from workers.process.gpu_environment import gpu_environment
from workers.process.logs import configure_logging, enable_faulthandler, silence_libraries
from workers.process.node import submission_id
from workers.process.oom import write_start_record
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.run_folder import incompatible_spec


def prepare_attempt(file: Path, *, task: Task, identity: AttemptIdentity, run_dir: Path) -> JobSpec:
    """Read the spec, copy it to the run's folder, and start logging; exits if the spec is invalid.

    Afterwards this process and its children are identified as the attempt's.
    """
    spec = read_spec(file, task=task, run_dir=run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    _start_job(
        submission_id(identity.run_id, identity.attempt),
        {run_dir: identity.attempt},
        num_gpus=spec.resources.num_gpus,
    )
    (run_dir / RunFile.SPEC).write_text(spec.model_dump_json(indent=2), encoding="utf-8")
    if identity.service_url is not None:
        end_earlier_attempts(identity.run_id, attempt=identity.attempt)
    return spec


def prepare_pack(file: Path) -> tuple[PackJob, list[RunSpec]]:
    """Read a pack's job and the specs of its runs, and start logging; exits if one is invalid."""
    job = PackJob.model_validate_json(file.read_bytes())
    specs = []
    for member in job.members:
        run_dir = Path(member.run_dir)
        spec = read_spec(run_dir / RunFile.SPEC, task="train", run_dir=run_dir)
        assert isinstance(spec, RunSpec)
        specs.append(spec)
    attempts = {Path(member.run_dir): member.attempt for member in job.members}
    _start_job(job.id, attempts, num_gpus=specs[0].resources.num_gpus)
    if job.service_url is not None:
        for member in job.members:
            end_earlier_attempts(member.run_id, attempt=member.attempt)
    return job, specs


def _start_job(name: str, attempts: Mapping[Path, int], *, num_gpus: int) -> None:
    """Identify this process by its job's name, and log to the folder of each of its runs.

    `attempts`: attempt numbers by run folder.
    """
    logs = [run_dir / attempt_log_path(attempt) for run_dir, attempt in attempts.items()]
    become_group_leader()
    os.environ.setdefault(Env.ATTEMPT, name)
    configure_logging(*logs, to_stderr=True)
    enable_faulthandler(logs[0])
    for run_dir, attempt in attempts.items():
        write_start_record(run_dir, attempt=attempt)
    silence_libraries()
    if num_gpus == 0:
        # Libraries create a context on any GPU that they see, whatever device they are given.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        os.environ |= gpu_environment(os.environ)


def secure_local_cluster() -> None:
    """Protect a local Ray cluster with a random token; call it before ray is imported.

    Ray would otherwise store a token in the home folder.
    """
    if "RAY_ADDRESS" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def read_spec(file: Path, *, task: Task, run_dir: Path) -> JobSpec:
    """Read a spec from a YAML or JSON file; prints all problems and exits if it is invalid.

    An invalid `spec.json` in `run_dir` itself was written by another version of Tandem.
    """
    try:
        spec = parse_job(yaml.safe_load(file.read_text(encoding="utf-8")))
        if get_task(spec) == task:
            return spec
        print(f"{file}: task: expected {task}, found {get_task(spec)}", file=sys.stderr)
    except yaml.YAMLError as error:
        print(f"{file} is neither YAML nor JSON: {error}", file=sys.stderr)
    except SpecError as error:
        if file.resolve() == (run_dir / RunFile.SPEC).resolve():
            print(incompatible_spec(file, error), file=sys.stderr)
            sys.exit(ExitCode.REFUSED)
        for problem in error.problems:
            print(f"{file}: {problem.field}: {problem.message}", file=sys.stderr)
    sys.exit(ExitCode.REFUSED)
