"""Runs that train side by side: one pipeline of images, one look of the teacher, many students.

It costs T + K * S instead of K * (T + S). Each member is a run of its own, with its own voice,
checkpoints and end: one that fails, or is not wanted any more, leaves the others as they are.
"""

import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from configs.protocol.failure import FailureReason
from configs.protocol.names import ExitCode, attempt_log
from configs.protocol.pack import PackMember, PackOrder
from configs.spec.run import RunSpec
from workers.attempt.failures import is_sticky, reason_of
from workers.attempt.lifecycle import say_how_the_last_ended, told_end
from workers.attempt.stop import Termination
from workers.attempt.watchdog import watched
from workers.data.loaders import kept
from workers.data.resolve import dataset_of
from workers.distillation.teacher import shared_teachers
from workers.errors import NanLoss, PackOutOfMemory
from workers.evaluation.coco import Scores
from workers.process.gpu_context import CudaContext, GpuContext
from workers.process.logs import speaking_for
from workers.telemetry.identity import Identity
from workers.telemetry.reporter import PATIENCE_S, Reporter
from workers.telemetry.spool import SpoolUnreadable
from workers.training.loop import Lockstep
from workers.training.run import Course
from workers.training.runner import Runner
from workers.training.setup import Room, build_workbench, make_room

log = logging.getLogger(__name__)


class Member:
    """A run in a pack, from its first word to its last."""

    def __init__(
        self, spec: RunSpec, *, identity: Identity, run_dir: Path, gpu: GpuContext
    ) -> None:
        self.spec = spec
        self._gpu = gpu
        self.run_dir = run_dir
        self.run_id = identity.run_id
        self.attempt = identity.attempt
        self.log_file = run_dir / attempt_log(identity.attempt)
        self.voice = Reporter.open(run_dir, identity=identity, spec=spec)
        self.course: Course | None = None
        self.code: ExitCode | None = None
        self._closing: threading.Thread | None = None

    @classmethod
    def of(cls, member: PackMember, order: PackOrder, spec: RunSpec, *, gpu: GpuContext) -> Self:
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
        return cls(spec, identity=identity, run_dir=Path(member.run_dir), gpu=gpu)

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

        `beside` counts the others that took memory when the round of turns began.
        """
        failure: Exception | None = None
        with speaking_for(self.log_file):
            try:
                with self._batch_kept():
                    yield
            except Exception as error:
                failure = error
        if failure is not None:
            self.fail(failure, beside=beside)

    def fail(self, error: Exception, *, beside: int) -> None:
        """End this member by `error`, which is told; its memory is free for `release_memory` then.

        After an error that leaves the GPU unusable the process ends too. Only this member's end
        has been told by then, so the others are tried again and none of them is blamed.
        """
        if beside and reason_of(error) is FailureReason.CUDA_OUT_OF_MEMORY:
            error = PackOutOfMemory(beside, error)
        with speaking_for(self.log_file):
            code = told_end(
                error,
                voice=self.voice,
                run_dir=self.run_dir,
                attempt=self.attempt,
                gpu=self._gpu,
            )
        if is_sticky(error) or not self._gpu.is_usable():
            self.voice.drain(patience_s=PATIENCE_S)
            log.error("Run %s left the GPU unusable, so its pack's process ends.", self.run_id)
            self._gpu.abandon(ExitCode.INTERRUPTED)
        _clear_frames(error)
        self._leave(code)

    @contextmanager
    def _batch_kept(self) -> Iterator[None]:
        try:
            yield
        except NanLoss:
            if self.course is not None:
                self.course.keep_offending_batch()
            raise

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
        """Let go of the student; what it said is brought while the others go on."""
        self.code = code
        self.course = None
        self._closing = threading.Thread(
            target=self.voice.close, kwargs={"patience_s": PATIENCE_S}, name="closing", daemon=True
        )
        self._closing.start()


class Pack:
    """Members that share a room, and a teacher if they are taught."""

    def __init__(
        self, members: Sequence[Member], *, termination: Termination, gpu: GpuContext
    ) -> None:
        self._members = members
        self._termination = termination
        self._gpu = gpu
        self._teacher: Scores | None = None

    def train(self) -> None:
        """Until nobody is left; raises what is no single member's failure."""
        room = self._room()
        if room is None:
            return
        self._each(lambda member: member.prepare(room, termination=self._termination))
        self._each(self._say_teacher)
        students = self._left()

        @contextmanager
        def guard(index: int, beside: int) -> Iterator[None]:
            member = students[index]
            with member.turn(beside=beside):
                yield
                if member.is_in and member.runner.is_done:
                    member.finish(self._teacher)

        def make_room(error: Exception, beside: int) -> int:
            """Without memory for a batch the last student leaves, unless it was alone."""
            if beside == 0 or reason_of(error) is not FailureReason.CUDA_OUT_OF_MEMORY:
                raise error
            index = max(index for index, member in enumerate(students) if member.is_in)
            students[index].fail(error, beside=beside)
            return index

        lockstep = Lockstep(
            [member.runner for member in students],
            room.training,
            device=room.device,
            guard=guard,
            make_room=make_room,
            on_departure=self._gpu.release_memory,
        )
        lockstep.go()

    def end_all(self, error: Exception) -> None:
        """End everybody who is left by an error that is no single member's.

        Each is told what it would be told alone. If the GPU is unusable nobody is: all are tried
        again.
        """
        if is_sticky(error) or not self._gpu.is_usable():
            log.error("The GPU is unusable, so the pack's process ends.", exc_info=error)
            self._gpu.abandon(ExitCode.INTERRUPTED)
        left = self._left()
        for member in left:
            member.fail(error, beside=len(left) - 1)

    def _left(self) -> list[Member]:
        return [member for member in self._members if member.is_in]

    def _each(self, act: Callable[[Member], None]) -> None:
        """One round of turns."""
        members = self._left()
        for member in members:
            with member.turn(beside=len(members) - 1):
                act(member)
            if not member.is_in:
                self._gpu.release_memory()

    def _room(self) -> Room | None:
        """What they share; without it all of them end the same way."""
        for member in self._members:
            with member.turn(beside=len(self._members) - 1):
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


def train_pack(
    order: PackOrder,
    specs: Sequence[RunSpec],
    *,
    termination: Termination,
    gpu: GpuContext | None = None,
) -> ExitCode:
    """Train all members until each has ended; every end is reported, none is raised.

    `specs` in the members' order. The exit code is that of success only if all succeeded: else a
    member without a last word is to be tried again. `gpu`: none is this process's own.
    """
    gpu = gpu or CudaContext()
    with ExitStack() as stack:
        members = _opened(order, specs, gpu=gpu)
        for member in members:
            stack.callback(member.close)
            member.voice.pulse = members[0].voice.pulse
            member.voice.start()
            say_how_the_last_ended(member.voice, run_dir=member.run_dir, attempt=member.attempt)
        voices = {member.log_file: member.voice for member in members}
        with watched(voices, stall_after_s=order.stall_after_s), shared_teachers():
            pack = Pack(members, termination=termination, gpu=gpu)
            try:
                pack.train()
            except Exception as error:
                pack.end_all(error)
    codes = [member.code for member in members]
    log.info("The pack's members ended: %s.", ", ".join(str(code) for code in codes))
    have_all_succeeded = len(codes) == len(specs) and set(codes) == {ExitCode.SUCCEEDED}
    return ExitCode.SUCCEEDED if have_all_succeeded else ExitCode.INTERRUPTED


def _opened(order: PackOrder, specs: Sequence[RunSpec], *, gpu: GpuContext) -> list[Member]:
    """Those members whose folders can be written to."""
    members = []
    for member, spec in zip(order.members, specs, strict=True):
        try:
            members.append(Member.of(member, order, spec, gpu=gpu))
        except (OSError, SpoolUnreadable):
            log.exception("Run %s cannot be reported, so it is not trained.", member.run_id)
    return members


def _clear_frames(error: BaseException) -> None:
    """Let go of what the functions that failed had at hand: a step's activations, above all."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
