"""One attempt of a run, on one page: spec -> config -> runner -> outcome."""

import contextlib
from pathlib import Path

import torch

from configs.protocol.names import ExitCode
from configs.spec.run import RunSpec
from workers import distributed
from workers.attempt.files import Slips, Witness
from workers.attempt.lifecycle import end_by, say_how_the_last_ended
from workers.attempt.stop import Termination
from workers.attempt.watchdog import watched
from workers.data.resolve import dataset_of
from workers.errors import (
    DatasetError,
    InvalidSpec,
    NanLoss,
    Preempted,
    StopRequested,
    Superseded,
    TeacherMismatch,
)
from workers.telemetry.heartbeat import STALL_AFTER_S
from workers.telemetry.identity import Identity
from workers.telemetry.protocol import Voice
from workers.telemetry.reporter import Reporter
from workers.training.hooks.checkpoints import CheckpointsHook
from workers.training.loop import Lockstep
from workers.training.run import Course
from workers.training.setup import build_workbench, make_room

_KNOWN_TO_ALL = (
    *(Superseded, StopRequested, Preempted),
    *(NanLoss, InvalidSpec, DatasetError, TeacherMismatch),
)
"""What all processes of a group raise at one place; anything else leaves the others behind."""


def train(
    spec: RunSpec,
    *,
    identity: Identity,
    run_dir: Path,
    termination: Termination,
    device: torch.device | None = None,
    stall_after_s: float = STALL_AFTER_S,
) -> ExitCode:
    """Train until the run ends or this attempt does; every end is reported, none is raised.

    Where several processes train together, each calls this, on the `device` it was given; the
    first one reports.
    """
    log_file = Slips(run_dir, attempt=identity.attempt).log_of(distributed.rank())
    with _voice(spec, identity=identity, run_dir=run_dir) as voice:
        say_how_the_last_ended(voice, run_dir=run_dir, attempt=identity.attempt)
        try:
            with watched({log_file: voice}, stall_after_s=stall_after_s):
                best = _train(
                    spec, run_dir=run_dir, voice=voice, termination=termination, assigned=device
                )
        except Exception as error:
            if distributed.count() > 1 and not isinstance(error, _KNOWN_TO_ALL):
                raise
            return end_by(error, voice=voice, run_dir=run_dir, attempt=identity.attempt)
        voice.outcome("succeeded", best_map=best.best_map, best_epoch=best.best_epoch)
        return ExitCode.SUCCEEDED


def _voice(
    spec: RunSpec, *, identity: Identity, run_dir: Path
) -> contextlib.AbstractContextManager[Voice]:
    if not distributed.is_first():
        return contextlib.nullcontext(Witness(Slips(run_dir, attempt=identity.attempt)))
    return Reporter.open(run_dir, identity=identity, spec=spec)


def _train(
    spec: RunSpec,
    *,
    run_dir: Path,
    voice: Voice,
    termination: Termination,
    assigned: torch.device | None,
) -> CheckpointsHook:
    dataset = dataset_of(spec)
    room = make_room(spec, dataset=dataset, run_dir=run_dir, assigned=assigned)
    bench = build_workbench(spec, room, run_dir=run_dir, voice=voice, termination=termination)
    course = Course(spec, run_dir, voice, bench)
    course.say_started(dataset)
    teacher = course.measure_teacher(termination=termination)
    course.say_teachers(teacher)
    try:
        Lockstep([bench.runner], room.training, device=room.device).go()
    except NanLoss:
        course.keep_offending_batch()
        raise
    course.finish(teacher)
    return bench.checkpoints
