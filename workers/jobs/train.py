"""One attempt of a run, on one page: spec -> config -> runner -> outcome."""

import contextlib
from pathlib import Path

import torch

from configs.protocol.names import ExitCode
from configs.spec.run import RunSpec
from workers import distributed
from workers.attempt.files import AttemptFiles, FailureReporter
from workers.attempt.lifecycle import finish_with_error, report_previous_oom_kill
from workers.attempt.stop import Termination
from workers.attempt.watchdog import watch_for_stalls
from workers.data.resolve import resolve_run_dataset
from workers.errors import (
    DatasetError,
    InvalidSpec,
    NanLoss,
    Preempted,
    StopRequested,
    Superseded,
    TeacherMismatch,
)
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.protocol import Reporter
from workers.telemetry.reporter import SpoolReporter
from workers.training.hooks.checkpoints import CheckpointsHook
from workers.training.loop import TrainLoop
from workers.training.run import TrainingRun
from workers.training.setup import build_shared_inputs, build_training_setup

_KNOWN_TO_ALL = (
    *(Superseded, StopRequested, Preempted),
    *(NanLoss, InvalidSpec, DatasetError, TeacherMismatch),
)
"""What all processes of a group raise at one place; anything else leaves the others behind."""


def train(
    spec: RunSpec,
    *,
    identity: AttemptIdentity,
    run_dir: Path,
    termination: Termination,
    device: torch.device | None = None,
    stall_timeout_s: float = DEFAULT_STALL_TIMEOUT_S,
) -> ExitCode:
    """Train until the run ends or this attempt does; every end is reported, none is raised.

    Where several processes train together, each calls this, on the `device` it was given; the
    first one reports.
    """
    log_file = AttemptFiles(run_dir, attempt=identity.attempt).log_file(distributed.get_rank())
    with _voice(spec, identity=identity, run_dir=run_dir) as reporter:
        report_previous_oom_kill(reporter, run_dir=run_dir, attempt=identity.attempt)
        try:
            with watch_for_stalls({log_file: reporter}, stall_timeout_s=stall_timeout_s):
                best = _train(
                    spec,
                    run_dir=run_dir,
                    reporter=reporter,
                    termination=termination,
                    assigned=device,
                )
        except Exception as error:
            if distributed.get_world_size() > 1 and not isinstance(error, _KNOWN_TO_ALL):
                raise
            return finish_with_error(
                error, reporter=reporter, run_dir=run_dir, attempt=identity.attempt
            )
        reporter.report_outcome("succeeded", best_map=best.best_map, best_epoch=best.best_epoch)
        return ExitCode.SUCCEEDED


def _voice(
    spec: RunSpec, *, identity: AttemptIdentity, run_dir: Path
) -> contextlib.AbstractContextManager[Reporter]:
    if not distributed.is_main_process():
        return contextlib.nullcontext(
            FailureReporter(AttemptFiles(run_dir, attempt=identity.attempt))
        )
    return SpoolReporter.open(run_dir, identity=identity, spec=spec)


def _train(
    spec: RunSpec,
    *,
    run_dir: Path,
    reporter: Reporter,
    termination: Termination,
    assigned: torch.device | None,
) -> CheckpointsHook:
    dataset = resolve_run_dataset(spec)
    room = build_shared_inputs(spec, dataset=dataset, run_dir=run_dir, assigned_device=assigned)
    bench = build_training_setup(
        spec, room, run_dir=run_dir, reporter=reporter, termination=termination
    )
    course = TrainingRun(spec, run_dir, reporter, bench)
    course.report_started(dataset)
    teacher = course.evaluate_teacher(termination=termination)
    course.report_teacher_metrics(teacher)
    try:
        TrainLoop([bench.runner], room.training, device=room.device).run()
    except NanLoss:
        course.write_nan_batch()
        raise
    course.finish(teacher)
    return bench.checkpoints
