"""The train job: one attempt of a run, from its spec to its outcome."""

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

_RAISED_BY_ALL_RANKS = (
    *(Superseded, StopRequested, Preempted),
    *(NanLoss, InvalidSpec, DatasetError, TeacherMismatch),
)
"""Errors that all processes of a run raise together; after any other, the peers are waiting."""


def train(
    spec: RunSpec,
    *,
    identity: AttemptIdentity,
    run_dir: Path,
    termination: Termination,
    device: torch.device | None = None,
    stall_timeout_s: float = DEFAULT_STALL_TIMEOUT_S,
) -> ExitCode:
    """Train until the run or this attempt ends; errors are reported and returned as exit code.

    If several processes train together, each calls this with the `device` assigned to it, and the
    main process reports. An error that only one of them has is raised.
    """
    log_file = AttemptFiles(run_dir, attempt=identity.attempt).log_file(distributed.get_rank())
    with _open_reporter(spec, identity=identity, run_dir=run_dir) as reporter:
        report_previous_oom_kill(reporter, run_dir=run_dir, attempt=identity.attempt)
        try:
            with watch_for_stalls({log_file: reporter}, stall_timeout_s=stall_timeout_s):
                checkpoints = _train(
                    spec,
                    run_dir=run_dir,
                    reporter=reporter,
                    termination=termination,
                    assigned_device=device,
                )
        except Exception as error:
            if distributed.get_world_size() > 1 and not isinstance(error, _RAISED_BY_ALL_RANKS):
                raise
            return finish_with_error(
                error, reporter=reporter, run_dir=run_dir, attempt=identity.attempt
            )
        reporter.report_outcome(
            "succeeded", best_map=checkpoints.best_map, best_epoch=checkpoints.best_epoch
        )
        return ExitCode.SUCCEEDED


def _open_reporter(
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
    assigned_device: torch.device | None,
) -> CheckpointsHook:
    dataset = resolve_run_dataset(spec)
    inputs = build_shared_inputs(spec, dataset=dataset, assigned_device=assigned_device)
    setup = build_training_setup(
        spec, inputs, run_dir=run_dir, reporter=reporter, termination=termination
    )
    run = TrainingRun(spec, run_dir, reporter, setup)
    run.report_start(dataset)
    teacher_metrics = run.evaluate_teacher(termination=termination)
    run.report_teacher_metrics(teacher_metrics)
    try:
        TrainLoop([setup.runner], inputs.training, device=inputs.device).run()
    except NanLoss:
        run.write_nan_batch()
        raise
    run.finish(teacher_metrics)
    return setup.checkpoints
