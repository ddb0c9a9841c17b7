"""Exceptions that end an attempt, as one tree.

WorkerError               a failed attempt; `reason` is reported to the service
├── InvalidSpec
│   ├── ResumeRefused
│   ├── MethodMismatch
│   └── IncompatibleRunFolder
├── DatasetError
├── TeacherMismatch
├── ModelMismatch
├── ExportDiffers
├── NanLoss
├── PackOutOfMemory
├── GpuUnavailable
└── Preempted
StopRequested             the service wants this attempt to stop; not a failure
Superseded                a newer attempt has taken over; this one reports no outcome
"""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from configs.protocol.failure import FailureReason
from configs.protocol.records import StopKind

_STOP_MESSAGES: dict[StopKind, str] = {
    "cancel": "The service asked this run to stop.",
    "pause": "The service asked this run to pause.",
    "preempt": "The service preempted this run in favor of another.",
}

_MAX_SUMMARY_CHARS = 300


class WorkerError(Exception):
    """Base class of the failures that have a reason of their own."""

    reason: ClassVar[FailureReason]


class InvalidSpec(WorkerError):
    """The spec requires what this process cannot do."""

    reason = FailureReason.INVALID_SPEC


class ResumeRefused(InvalidSpec):
    """The checkpoint to resume from belongs to another spec, teacher or dataset."""


class MethodMismatch(InvalidSpec):
    """A distillation method is not installed, has another release, or refuses its fields."""


class IncompatibleRunFolder(InvalidSpec):
    """A file of the run's folder has the format of another version of Tandem."""

    def __init__(self, file: Path | str, fields: Iterable[str]) -> None:
        """`fields`: those that only one of the two versions has."""
        super().__init__(
            f"{file} has the format of another version of Tandem, which this one does not read "
            f"({', '.join(fields)}): use that version for this run, or launch it again as a new "
            "run; its checkpoints can still be evaluated, exported and imported as teachers."
        )


class DatasetError(WorkerError):
    """The dataset is missing, unreadable, or has another digest than expected."""

    reason = FailureReason.DATASET_ERROR


class TeacherMismatch(WorkerError):
    """The teacher's checkpoint is missing, has another hash than expected, or does not fit."""

    reason = FailureReason.TEACHER_MISMATCH


class ModelMismatch(WorkerError):
    """The checkpoint of a model to evaluate or export is missing, or does not fit."""

    reason = FailureReason.MODEL_MISMATCH


class ExportDiffers(WorkerError):
    """An exported model's detections differ from the original's."""

    reason = FailureReason.EXPORT_DIFFERS


class NanLoss(WorkerError):
    """A loss is infinite or NaN."""

    reason = FailureReason.NAN_LOSS


class PackOutOfMemory(WorkerError):
    """The GPU's memory does not suffice for this student with its pack; alone, it may."""

    reason = FailureReason.PACK_OUT_OF_MEMORY

    def __init__(self, num_others: int, error: Exception) -> None:
        super().__init__(
            f"The GPU's memory does not suffice with {num_others} others of its pack: {error}"
        )
        self.__cause__ = error


class GpuUnavailable(WorkerError):
    """The GPU that the cluster assigned does not work; one of another node may."""

    reason = FailureReason.NODE_LOST


class Preempted(WorkerError):
    """The process received SIGTERM."""

    reason = FailureReason.PREEMPTED


class StopRequested(Exception):
    """The service asked the attempt to stop: the run ends, or resumes later."""

    def __init__(self, kind: StopKind) -> None:
        super().__init__(_STOP_MESSAGES[kind])
        self.ends_run = kind == "cancel"


class Superseded(Exception):
    """A newer attempt of the same run has taken over."""


def summarize_error(error: Exception) -> str:
    """The first line of an error's message, at most 300 characters; its type if there is none.

    Later lines of CUDA's errors are hints on debugging kernels.
    """
    lines = str(error).strip().splitlines()
    return lines[0][:_MAX_SUMMARY_CHARS] if lines else type(error).__name__
