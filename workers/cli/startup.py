"""What every command of `tandem-worker` begins with: its spec, its log."""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from configs.catalog import SpecError, parse_job
from configs.protocol.names import Env, ExitCode, RunFile, attempt_log_path
from configs.protocol.pack import PackJob
from configs.spec.jobs import JobSpec, Task, get_task
from configs.spec.run import RunSpec
from workers.attempt.cleanup import end_earlier_attempts
from workers.process.children import become_group_leader
from workers.process.gpu_environment import gpu_environment
from workers.process.logs import configure_logging, enable_faulthandler, silence_libraries
from workers.process.node import submission_id
from workers.process.oom import write_start_record
from workers.telemetry.identity import AttemptIdentity


def prepare_attempt(file: Path, *, task: Task, identity: AttemptIdentity, run_dir: Path) -> JobSpec:
    """The spec in `file`, kept in the run's folder, with a log beside it; ends the process if it
    cannot be.

    From here on this process and its children are known as the attempt's.
    """
    spec = read_spec(file, task=task)
    run_dir.mkdir(parents=True, exist_ok=True)
    _begin_job(
        submission_id(identity.run_id, identity.attempt),
        {run_dir: identity.attempt},
        num_gpus=spec.resources.num_gpus,
    )
    (run_dir / RunFile.SPEC).write_text(spec.model_dump_json(indent=2), encoding="utf-8")
    if identity.service_url is not None:
        end_earlier_attempts(identity.run_id, attempt=identity.attempt)
    return spec


def prepare_pack(file: Path) -> tuple[PackJob, list[RunSpec]]:
    """The order in `file` and its members' specs, a log beside each; ends the process if it cannot
    be.
    """
    order = PackJob.model_validate_json(file.read_bytes())
    specs = []
    for member in order.members:
        spec = read_spec(Path(member.run_dir) / RunFile.SPEC, task="train")
        assert isinstance(spec, RunSpec)
        specs.append(spec)
    attempts = {Path(member.run_dir): member.attempt for member in order.members}
    _begin_job(order.id, attempts, num_gpus=specs[0].resources.num_gpus)
    if order.service_url is not None:
        for member in order.members:
            end_earlier_attempts(member.run_id, attempt=member.attempt)
    return order, specs


def _begin_job(name: str, attempts: Mapping[Path, int], *, num_gpus: int) -> None:
    """Make this process known by its job's name, and have its log written for every run of it."""
    logs = [run_dir / attempt_log_path(attempt) for run_dir, attempt in attempts.items()]
    become_group_leader()
    os.environ.setdefault(Env.ATTEMPT, name)
    configure_logging(*logs, to_stderr=True)
    enable_faulthandler(logs[0])
    for run_dir, attempt in attempts.items():
        write_start_record(run_dir, attempt=attempt)
    silence_libraries()
    if num_gpus == 0:
        # Libraries make a context on any GPU that they see, whatever device they are given.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        os.environ |= gpu_environment(os.environ)


def secure_local_cluster() -> None:
    """Where Ray will be a cluster of our own, nobody else is let in.

    Ray reads this while it is imported, and by itself would keep a token in the home folder.
    """
    if "RAY_ADDRESS" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def read_spec(file: Path, *, task: Task) -> JobSpec:
    """The spec in a YAML or JSON file; ends the process, every fault told, if it is none."""
    try:
        spec = parse_job(yaml.safe_load(file.read_text(encoding="utf-8")))
        if get_task(spec) == task:
            return spec
        print(f"{file}: task: it is {get_task(spec)}, not {task}", file=sys.stderr)
    except yaml.YAMLError as error:
        print(f"{file} is neither YAML nor JSON: {error}", file=sys.stderr)
    except SpecError as error:
        for problem in error.problems:
            print(f"{file}: {problem.field}: {problem.message}", file=sys.stderr)
    sys.exit(ExitCode.REFUSED)
