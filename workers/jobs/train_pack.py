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
from configs.protocol.names import ExitCode, attempt_log_path
from configs.protocol.pack import PackJob, PackMember
from configs.spec.run import RunSpec
from workers.attempt.failures import classify_error, is_sticky
from workers.attempt.lifecycle import report_error, report_previous_oom_kill
from workers.attempt.stop import Termination
from workers.attempt.watchdog import watch_for_stalls
from workers.data.loaders import cache_batches
from workers.data.resolve import resolve_run_dataset
from workers.distillation.teacher import share_teachers
from workers.errors import NanLoss, PackOutOfMemory
from workers.evaluation.coco import CocoMetrics
from workers.process.gpu_context import CudaContext, GpuContext
from workers.process.logs import log_context
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.reporter import DRAIN_TIMEOUT_S, SpoolReporter
from workers.telemetry.spool import SpoolUnreadable
from workers.training.loop import TrainLoop
from workers.training.run import TrainingRun
from workers.training.runner import Runner
from workers.training.setup import SharedInputs, build_shared_inputs, build_training_setup

log = logging.getLogger(__name__)


class PackedRun:
    """A run in a pack, from its first word to its last."""

    def __init__(
        self, spec: RunSpec, *, identity: AttemptIdentity, run_dir: Path, gpu: GpuContext
    ) -> None:
        self.spec = spec
        self._gpu = gpu
        self.run_dir = run_dir
        self.run_id = identity.run_id
        self.attempt = identity.attempt
        self.log_file = run_dir / attempt_log_path(identity.attempt)
        self.reporter = SpoolReporter.open(run_dir, identity=identity, spec=spec)
        self.training_run: TrainingRun | None = None
        self.exit_code: ExitCode | None = None
        self._closing: threading.Thread | None = None

    @classmethod
    def open(cls, member: PackMember, order: PackJob, spec: RunSpec, *, gpu: GpuContext) -> Self:
        """A member as the order names it."""
        identity = AttemptIdentity(
            run_id=member.run_id,
            attempt=member.attempt,
            service_url=order.service_url,
            mlflow_url=order.mlflow_url,
            preset=member.preset,
            name=member.name,
            project=member.project,
        )
        return cls(spec, identity=identity, run_dir=Path(member.run_dir), gpu=gpu)

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.exit_code is None

    @property
    def runner(self) -> Runner:
        """What drives it, once it is prepared."""
        assert self.training_run is not None
        return self.training_run.setup.runner

    @contextmanager
    def catch_failure(self, *, num_others: int) -> Iterator[None]:
        """What goes wrong herein ends this member, and is told; no other hears of it.

        `beside` counts the others that took memory when the round of turns began.
        """
        failure: Exception | None = None
        with log_context(self.log_file):
            try:
                with self._batch_kept():
                    yield
            except Exception as error:
                failure = error
        if failure is not None:
            self.fail(failure, num_others=num_others)

    def fail(self, error: Exception, *, num_others: int) -> None:
        """End this member by `error`, which is told; its memory is free for `release_memory` then.

        After an error that leaves the GPU unusable the process ends too. Only this member's end
        has been told by then, so the others are tried again and none of them is blamed.
        """
        if num_others and classify_error(error) is FailureReason.CUDA_OUT_OF_MEMORY:
            error = PackOutOfMemory(num_others, error)
        with log_context(self.log_file):
            code = report_error(
                error,
                reporter=self.reporter,
                run_dir=self.run_dir,
                attempt=self.attempt,
                gpu=self._gpu,
            )
        if is_sticky(error) or not self._gpu.is_usable():
            self.reporter.drain(timeout_s=DRAIN_TIMEOUT_S)
            log.error("Run %s left the GPU unusable, so its pack's process ends.", self.run_id)
            self._gpu.exit_process(ExitCode.INTERRUPTED)
        _clear_frames(error)
        self._leave(code)

    @contextmanager
    def _batch_kept(self) -> Iterator[None]:
        try:
            yield
        except NanLoss:
            if self.training_run is not None:
                self.training_run.write_nan_batch()
            raise

    def prepare(self, room: SharedInputs, *, termination: Termination) -> None:
        """Build the student, as far as it had come, and say that it starts."""
        bench = build_training_setup(
            self.spec, room, run_dir=self.run_dir, reporter=self.reporter, termination=termination
        )
        self.training_run = TrainingRun(self.spec, self.run_dir, self.reporter, bench)
        self.training_run.report_started(room.dataset)

    def finish(self, teacher: CocoMetrics | None) -> None:
        """Write the results and say that it succeeded."""
        assert self.training_run is not None
        self.training_run.finish(
            teacher if self.training_run.setup.model.teacher is not None else None
        )
        checkpoints = self.training_run.setup.checkpoints
        self.reporter.report_outcome(
            "succeeded", best_map=checkpoints.best_map, best_epoch=checkpoints.best_epoch
        )
        self._leave(ExitCode.SUCCEEDED)

    def close(self) -> None:
        """Wait until everything it said has arrived, or patience ends."""
        if self._closing is not None:
            self._closing.join()
        self.reporter.close(timeout_s=DRAIN_TIMEOUT_S)

    def _leave(self, code: ExitCode) -> None:
        """Let go of the student; what it said is brought while the others go on."""
        self.exit_code = code
        self.training_run = None
        self._closing = threading.Thread(
            target=self.reporter.close,
            kwargs={"timeout_s": DRAIN_TIMEOUT_S},
            name="closing",
            daemon=True,
        )
        self._closing.start()


class PackTrainer:
    """Members that share a room, and a teacher if they are taught."""

    def __init__(
        self, members: Sequence[PackedRun], *, termination: Termination, gpu: GpuContext
    ) -> None:
        self._members = members
        self._termination = termination
        self._gpu = gpu
        self._teacher: CocoMetrics | None = None

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
            with member.catch_failure(num_others=beside):
                yield
                if member.is_active and member.runner.is_done:
                    member.finish(self._teacher)

        def make_room(error: Exception, beside: int) -> int:
            """Without memory for a batch the last student leaves, unless it was alone."""
            if beside == 0 or classify_error(error) is not FailureReason.CUDA_OUT_OF_MEMORY:
                raise error
            index = max(index for index, member in enumerate(students) if member.is_active)
            students[index].fail(error, num_others=beside)
            return index

        lockstep = TrainLoop(
            [member.runner for member in students],
            room.training,
            device=room.device,
            guard=guard,
            evict=make_room,
            on_student_end=self._gpu.release_memory,
        )
        lockstep.run()

    def fail_all(self, error: Exception) -> None:
        """End everybody who is left by an error that is no single member's.

        Each is told what it would be told alone. If the GPU is unusable nobody is: all are tried
        again.
        """
        if is_sticky(error) or not self._gpu.is_usable():
            log.error("The GPU is unusable, so the pack's process ends.", exc_info=error)
            self._gpu.exit_process(ExitCode.INTERRUPTED)
        left = self._left()
        for member in left:
            member.fail(error, num_others=len(left) - 1)

    def _left(self) -> list[PackedRun]:
        return [member for member in self._members if member.is_active]

    def _each(self, act: Callable[[PackedRun], None]) -> None:
        """One round of turns."""
        members = self._left()
        for member in members:
            with member.catch_failure(num_others=len(members) - 1):
                act(member)
            if not member.is_active:
                self._gpu.release_memory()

    def _room(self) -> SharedInputs | None:
        """What they share; without it all of them end the same way."""
        for member in self._members:
            with member.catch_failure(num_others=len(self._members) - 1):
                dataset = resolve_run_dataset(member.spec)
                room = build_shared_inputs(member.spec, dataset=dataset, run_dir=member.run_dir)
                return replace(room, validation=cache_batches(room.validation))
        return None

    def _say_teacher(self, member: PackedRun) -> None:
        """It is measured once, for all that it teaches."""
        if member.training_run is None or member.training_run.setup.model.teacher is None:
            return
        if self._teacher is None:
            self._teacher = member.training_run.evaluate_teacher(termination=self._termination)
        member.training_run.report_teacher_metrics(self._teacher)


def train_pack(
    order: PackJob,
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
            member.reporter.heartbeat = members[0].reporter.heartbeat
            member.reporter.start()
            report_previous_oom_kill(
                member.reporter, run_dir=member.run_dir, attempt=member.attempt
            )
        voices = {member.log_file: member.reporter for member in members}
        with watch_for_stalls(voices, stall_timeout_s=order.stall_timeout_s), share_teachers():
            pack = PackTrainer(members, termination=termination, gpu=gpu)
            try:
                pack.train()
            except Exception as error:
                pack.fail_all(error)
    codes = [member.exit_code for member in members]
    log.info("The pack's members ended: %s.", ", ".join(str(code) for code in codes))
    have_all_succeeded = len(codes) == len(specs) and set(codes) == {ExitCode.SUCCEEDED}
    return ExitCode.SUCCEEDED if have_all_succeeded else ExitCode.INTERRUPTED


def _opened(order: PackJob, specs: Sequence[RunSpec], *, gpu: GpuContext) -> list[PackedRun]:
    """Those members whose folders can be written to."""
    members = []
    for member, spec in zip(order.members, specs, strict=True):
        try:
            members.append(PackedRun.open(member, order, spec, gpu=gpu))
        except (OSError, SpoolUnreadable):
            log.exception("Run %s cannot be reported, so it is not trained.", member.run_id)
    return members


def _clear_frames(error: BaseException) -> None:
    """Let go of what the functions that failed had at hand: a step's activations, above all."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
