"""Runs that train side by side: one pipeline of images, one look of the teacher, many students.

It costs T + K * S instead of K * (T + S). Each member is a run of its own, with its own voice,
checkpoints and end: one that fails, or is not wanted any more, leaves the others as they are.
"""

import gc
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch

from configs.spec import ExitCode, PackMember, PackOrder, RunSpec, attempt_log
from workers.attempt import say_how_the_last_ended, told_end
from workers.course import Course, dataset_of
from workers.distillation.teacher import shared_teachers
from workers.errors import NanLoss, PackOutOfMemory
from workers.evaluation import Scores
from workers.hooks.control import Termination
from workers.loading import kept
from workers.lockstep import Lockstep
from workers.logs import speaking_for
from workers.reporting.identity import Identity
from workers.reporting.reporter import PATIENCE_S, Reporter
from workers.reporting.spool import SpoolUnreadable
from workers.runner import Runner
from workers.watchdog import watched
from workers.workbench import Room, build_workbench, make_room

log = logging.getLogger(__name__)


class Member:
    """A run in a pack, from its first word to its last."""

    def __init__(self, spec: RunSpec, *, identity: Identity, run_dir: Path) -> None:
        self.spec = spec
        self.run_dir = run_dir
        self.attempt = identity.attempt
        self.log_file = run_dir / attempt_log(identity.attempt)
        self.voice = Reporter.open(run_dir, identity=identity, spec=spec)
        self.course: Course | None = None
        self.code: ExitCode | None = None
        self._closing: threading.Thread | None = None

    @classmethod
    def of(cls, member: PackMember, order: PackOrder, spec: RunSpec) -> Self:
        """A member as the order names it."""
        identity = Identity(
            run_id=member.run_id,
            attempt=member.attempt,
            report_url=order.report_url,
            mlflow_url=order.mlflow_url,
            preset=member.preset,
            name=member.name,
            project=member.project,
        )
        return cls(spec, identity=identity, run_dir=Path(member.run_dir))

    @property
    def is_in(self) -> bool:
        """Whether it has not ended."""
        return self.code is None

    @property
    def runner(self) -> Runner:
        """What drives it, once it is prepared."""
        assert self.course is not None
        return self.course.bench.runner

    @contextmanager
    def turn(self, *, beside: int) -> Iterator[None]:
        """What goes wrong herein ends this member, and is told; no other hears of it.

        `beside` counts the members that take memory too.
        """
        with speaking_for(self.log_file):
            try:
                with self._batch_kept():
                    yield
            except torch.OutOfMemoryError as error:
                self._leave(self._told(error if beside == 0 else PackOutOfMemory(beside, error)))
            except Exception as error:
                self._leave(self._told(error))

    @contextmanager
    def _batch_kept(self) -> Iterator[None]:
        try:
            yield
        except NanLoss:
            if self.course is not None:
                self.course.keep_offending_batch()
            raise

    def _told(self, error: Exception) -> ExitCode:
        return told_end(error, voice=self.voice, run_dir=self.run_dir, attempt=self.attempt)

    def prepare(self, room: Room, *, termination: Termination) -> None:
        """Build the student, as far as it had come, and say that it starts."""
        bench = build_workbench(
            self.spec, room, run_dir=self.run_dir, voice=self.voice, termination=termination
        )
        self.course = Course(self.spec, self.run_dir, self.voice, bench)
        self.course.say_started(room.dataset)

    def finish(self, teacher: Scores | None) -> None:
        """Write the results and say that it succeeded."""
        assert self.course is not None
        self.course.finish(teacher if self.course.bench.model.teacher is not None else None)
        checkpoints = self.course.bench.checkpoints
        self.voice.outcome(
            "succeeded", best_map=checkpoints.best_map, best_epoch=checkpoints.best_epoch
        )
        self._leave(ExitCode.SUCCEEDED)

    def close(self) -> None:
        """Wait until everything it said has arrived, or patience ends."""
        if self._closing is not None:
            self._closing.join()
        self.voice.close(patience_s=PATIENCE_S)

    def _leave(self, code: ExitCode) -> None:
        """Give its memory back at once; what it said is brought while the others go on."""
        self.code = code
        self.course = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._closing = threading.Thread(
            target=self.voice.close, kwargs={"patience_s": PATIENCE_S}, name="closing", daemon=True
        )
        self._closing.start()


class Pack:
    """Members that share a room, and a teacher if they are taught."""

    def __init__(self, members: Sequence[Member], *, termination: Termination) -> None:
        self._members = members
        self._termination = termination
        self._teacher: Scores | None = None

    def train(self) -> None:
        """Until nobody is left."""
        room = self._room()
        if room is None:
            return
        for member in self._members:
            with self._turn(member):
                member.prepare(room, termination=self._termination)
        for member in self._left():
            with self._turn(member):
                self._say_teacher(member)
        by_runner = {id(member.runner): member for member in self._left()}

        @contextmanager
        def guard(runner: Runner) -> Iterator[None]:
            member = by_runner[id(runner)]
            with self._turn(member):
                yield
                if runner.is_done and member.is_in:
                    member.finish(self._teacher)

        runners = [member.runner for member in self._left()]
        lockstep = Lockstep(runners, room.training, device=room.device, guard=guard)
        del runners  # so that the memory of a member that leaves is free
        lockstep.go()

    def _left(self) -> list[Member]:
        return [member for member in self._members if member.is_in]

    def _turn(self, member: Member) -> AbstractContextManager[None]:
        return member.turn(beside=len(self._left()) - 1)

    def _room(self) -> Room | None:
        """What they share; without it all of them end the same way."""
        for member in self._members:
            with self._turn(member):
                dataset = dataset_of(member.spec)
                room = make_room(member.spec, dataset=dataset, run_dir=member.run_dir)
                return replace(room, validation=kept(room.validation))
        return None

    def _say_teacher(self, member: Member) -> None:
        """It is measured once, for all that it teaches."""
        if member.course is None or member.course.bench.model.teacher is None:
            return
        if self._teacher is None:
            self._teacher = member.course.measure_teacher(termination=self._termination)
        member.course.say_teachers(self._teacher)


def train_pack(order: PackOrder, specs: Sequence[RunSpec], *, termination: Termination) -> ExitCode:
    """Train all members until each has ended; every end is reported, none is raised.

    `specs` in the members' order. The exit code is that of success only if all succeeded: else a
    member without a last word is to be tried again.
    """
    with ExitStack() as stack:
        members = _opened(order, specs)
        for member in members:
            stack.callback(member.close)
            member.voice.pulse = members[0].voice.pulse
            member.voice.start()
            say_how_the_last_ended(member.voice, run_dir=member.run_dir, attempt=member.attempt)
        voices = {member.log_file: member.voice for member in members}
        with watched(voices, stall_after_s=order.stall_after_s), shared_teachers():
            Pack(members, termination=termination).train()
    codes = [member.code for member in members]
    log.info("The pack's members ended: %s.", ", ".join(str(code) for code in codes))
    have_all_succeeded = len(codes) == len(specs) and set(codes) == {ExitCode.SUCCEEDED}
    return ExitCode.SUCCEEDED if have_all_succeeded else ExitCode.INTERRUPTED


def _opened(order: PackOrder, specs: Sequence[RunSpec]) -> list[Member]:
    """Those members whose folders can be written to."""
    members = []
    for member, spec in zip(order.members, specs, strict=True):
        try:
            members.append(Member.of(member, order, spec))
        except (OSError, SpoolUnreadable):
            log.exception("Run %s cannot be reported, so it is not trained.", member.run_id)
    return members
