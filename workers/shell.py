"""What every command of `tandem-worker` begins with: its spec, its log."""

import os
import sys
from pathlib import Path

import yaml

from configs.catalog import SpecError, parse_job
from configs.spec import ExitCode, JobSpec, RunFile, Task, attempt_log, task_of
from workers.logs import silence_libraries, write_log


def begin_attempt(file: Path, *, task: Task, run_dir: Path, number: int) -> JobSpec:
    """The spec in `file`, kept in the run's folder, with a log beside it; ends the process if it
    cannot be.
    """
    spec = read_spec(file, task=task)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_log(run_dir / attempt_log(number), also_print=True)
    (run_dir / RunFile.SPEC).write_text(spec.model_dump_json(indent=2), encoding="utf-8")
    silence_libraries()
    if spec.resources.num_gpus == 0:
        # mmcv moves batches to any GPU that torch sees, whatever device it is given.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return spec


def read_spec(file: Path, *, task: Task) -> JobSpec:
    """The spec in a YAML or JSON file; ends the process, every fault told, if it is none."""
    try:
        spec = parse_job(yaml.safe_load(file.read_text(encoding="utf-8")))
        if task_of(spec) == task:
            return spec
        print(f"{file}: task: it is {task_of(spec)}, not {task}", file=sys.stderr)
    except yaml.YAMLError as error:
        print(f"{file} is neither YAML nor JSON: {error}", file=sys.stderr)
    except SpecError as error:
        for problem in error.problems:
            print(f"{file}: {problem.field}: {problem.message}", file=sys.stderr)
    sys.exit(ExitCode.REFUSED)
