"""The train-pack job: several runs train in one process and share images and teacher.

With teacher time T and student time S, a pack of K runs costs T + K * S instead of K * (T + S).
Each member is a run of its own, with its own reporter, checkpoints and outcome: a member that fails
or is stopped does not influence the others.
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
    """One run of a pack."""

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
    def open(cls, member: PackMember, job: PackJob, spec: RunSpec, *, gpu: GpuContext) -> Self:
        """Open the reporter of a member of `job`.

        Raises `OSError` or `SpoolUnreadable` if its folder cannot be used.
        """
        identity = AttemptIdentity(
            run_id=member.run_id,
            attempt=member.attempt,
            service_url=job.service_url,
            mlflow_url=job.mlflow_url,
            preset=member.preset,
            name=member.name,
            project=member.project,
        )
        return cls(spec, identity=identity, run_dir=Path(member.run_dir), gpu=gpu)

    @property
    def is_active(self) -> bool:
        """Whether the run has no outcome yet."""
        return self.exit_code is None

    @property
    def runner(self) -> Runner:
        """The runner; `prepare` must have been called."""
        assert self.training_run is not None
        return self.training_run.setup.runner

    @contextmanager
    def catch_failure(self, *, num_others: int) -> Iterator[None]:
        """Let an error end this member only: it is reported and suppressed.

        `num_others` is how many other members held memory when this round of turns started.
        """
        failure: Exception | None = None
        with log_context(self.log_file):
            try:
                with self._write_batch_on_nan():
                    yield
            except Exception as error:
                failure = error
        if failure is not None:
            self.fail(failure, num_others=num_others)

    def fail(self, error: Exception, *, num_others: int) -> None:
        """Report `error` as this member's outcome, and drop all references to its tensors.

        After an error that leaves the GPU unusable the process exits. Only this member's outcome
        has been reported by then, so the others are retried and none of them counts as failed.
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
        self._end(code)

    @contextmanager
    def _write_batch_on_nan(self) -> Iterator[None]:
        try:
            yield
        except NanLoss:
            if self.training_run is not None:
                self.training_run.write_nan_batch()
            raise

    def prepare(self, inputs: SharedInputs, *, termination: Termination) -> None:
        """Build the student, resume it if it has a checkpoint, and report the start."""
        setup = build_training_setup(
            self.spec, inputs, run_dir=self.run_dir, reporter=self.reporter, termination=termination
        )
        self.training_run = TrainingRun(self.spec, self.run_dir, self.reporter, setup)
        self.training_run.report_start(inputs.dataset)

    def finish(self, teacher_metrics: CocoMetrics | None) -> None:
        """Write the results and report success."""
        assert self.training_run is not None
        has_teacher = self.training_run.setup.model.teacher is not None
        self.training_run.finish(teacher_metrics if has_teacher else None)
        checkpoints = self.training_run.setup.checkpoints
        self.reporter.report_outcome(
            "succeeded", best_map=checkpoints.best_map, best_epoch=checkpoints.best_epoch
        )
        self._end(ExitCode.SUCCEEDED)

    def close(self) -> None:
        """Wait until all records are delivered, or the timeout of draining ends."""
        if self._closing is not None:
            self._closing.join()
        self.reporter.close(timeout_s=DRAIN_TIMEOUT_S)

    def _end(self, code: ExitCode) -> None:
        """Drop the student, and deliver its records while the other members continue."""
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
    """Trains the members of a pack, which share their inputs and, if distilled, a teacher."""

    def __init__(
        self, members: Sequence[PackedRun], *, termination: Termination, gpu: GpuContext
    ) -> None:
        self._members = members
        self._termination = termination
        self._gpu = gpu
        self._teacher_metrics: CocoMetrics | None = None
        """None until the teacher has been evaluated, or without one."""

    def train(self) -> None:
        """Train until every member has ended; raises errors that no single member caused."""
        inputs = self._build_inputs()
        if inputs is None:
            return
        self._run_each(lambda member: member.prepare(inputs, termination=self._termination))
        self._run_each(self._report_teacher_metrics)
        students = self._get_active()

        @contextmanager
        def guard(index: int, num_others: int) -> Iterator[None]:
            member = students[index]
            with member.catch_failure(num_others=num_others):
                yield
                if member.is_active and member.runner.is_done:
                    member.finish(self._teacher_metrics)

        def evict(error: Exception, num_others: int) -> int:
            """End the last student if there is no memory for the next batch."""
            if num_others == 0 or classify_error(error) is not FailureReason.CUDA_OUT_OF_MEMORY:
                raise error
            index = max(index for index, member in enumerate(students) if member.is_active)
            students[index].fail(error, num_others=num_others)
            return index

        loop = TrainLoop(
            [member.runner for member in students],
            inputs.training,
            device=inputs.device,
            guard=guard,
            evict=evict,
            on_student_end=self._gpu.release_memory,
        )
        loop.run()

    def fail_all(self, error: Exception) -> None:
        """End all active members by an error that no single one of them caused.

        Each member reports what it would report in a process of its own. If the GPU is unusable,
        nothing is reported and all of them are retried.
        """
        if is_sticky(error) or not self._gpu.is_usable():
            log.error("The GPU is unusable, so the pack's process ends.", exc_info=error)
            self._gpu.exit_process(ExitCode.INTERRUPTED)
        members = self._get_active()
        for member in members:
            member.fail(error, num_others=len(members) - 1)

    def _get_active(self) -> list[PackedRun]:
        return [member for member in self._members if member.is_active]

    def _run_each(self, act: Callable[[PackedRun], None]) -> None:
        """Call `act` for each active member; an error ends that member only."""
        members = self._get_active()
        for member in members:
            with member.catch_failure(num_others=len(members) - 1):
                act(member)
            if not member.is_active:
                self._gpu.release_memory()

    def _build_inputs(self) -> SharedInputs | None:
        """The inputs for all members, built from the first spec that works; None if none does.

        A member without images that have no labels ignores them, so one with such comes first.
        """
        for member in sorted(self._members, key=lambda member: member.spec.data.unlabelled is None):
            with member.catch_failure(num_others=len(self._members) - 1):
                dataset = resolve_run_dataset(member.spec)
                inputs = build_shared_inputs(member.spec, dataset=dataset)
                return replace(inputs, validation=cache_batches(inputs.validation))
        return None

    def _report_teacher_metrics(self, member: PackedRun) -> None:
        """Evaluate the teacher once for all members, and report its metrics for this one."""
        if member.training_run is None or member.training_run.setup.model.teacher is None:
            return
        if self._teacher_metrics is None:
            self._teacher_metrics = member.training_run.evaluate_teacher(
                termination=self._termination
            )
        member.training_run.report_teacher_metrics(self._teacher_metrics)


def train_pack(
    job: PackJob,
    specs: Sequence[RunSpec],
    *,
    termination: Termination,
    gpu: GpuContext | None = None,
) -> ExitCode:
    """Train all members until each has ended; errors are reported and not raised.

    `specs` has the members' order. `gpu` is this process's own if it is None. Returns SUCCEEDED if
    all members succeeded; after any other exit code, members without an outcome are retried.
    """
    gpu = gpu or CudaContext()
    with ExitStack() as stack:
        members = _open_members(job, specs, gpu=gpu)
        for member in members:
            stack.callback(member.close)
            member.reporter.heartbeat = members[0].reporter.heartbeat
            member.reporter.start()
            report_previous_oom_kill(
                member.reporter, run_dir=member.run_dir, attempt=member.attempt
            )
        reporters = {member.log_file: member.reporter for member in members}
        with watch_for_stalls(reporters, stall_timeout_s=job.stall_timeout_s), share_teachers():
            trainer = PackTrainer(members, termination=termination, gpu=gpu)
            try:
                trainer.train()
            except Exception as error:
                trainer.fail_all(error)
    codes = [member.exit_code for member in members]
    log.info("The pack's members ended: %s.", ", ".join(str(code) for code in codes))
    have_all_succeeded = len(codes) == len(specs) and set(codes) == {ExitCode.SUCCEEDED}
    return ExitCode.SUCCEEDED if have_all_succeeded else ExitCode.INTERRUPTED


def _open_members(job: PackJob, specs: Sequence[RunSpec], *, gpu: GpuContext) -> list[PackedRun]:
    """The members whose folders can be used; others are logged and left out."""
    members = []
    for member, spec in zip(job.members, specs, strict=True):
        try:
            members.append(PackedRun.open(member, job, spec, gpu=gpu))
        except (OSError, SpoolUnreadable):
            log.exception(
                "The folder of run %s cannot be used, so the run is not trained.", member.run_id
            )
    return members


def _clear_frames(error: BaseException) -> None:
    """Release the local variables of the failed functions, above all a step's activations."""
    current: BaseException | None = error
    while current is not None:
        traceback.clear_frames(current.__traceback__)
        current = current.__cause__ or current.__context__
