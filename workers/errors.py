"""What can end an attempt, as one tree.

WorkerError               a failed attempt; `reason` is what the service is told
├── InvalidSpec
│   └── ResumeRefused
├── DatasetError
├── TeacherMismatch
├── ModelMismatch
├── ExportDiffers
├── NanLoss
├── PackOutOfMemory
├── GpuUnavailable
└── Preempted
StopRequested             the service wants this attempt to leave; not a failure
Superseded                a newer attempt has taken over; nothing is reported any more
"""

from typing import ClassVar

from configs.protocol.failure import FailureReason
from configs.protocol.records import StopKind

_WISHES: dict[StopKind, str] = {
    "cancel": "The service asked this run to stop.",
    "pause": "The service asked this run to pause.",
    "preempt": "The service asked this run to make room for another.",
}


class WorkerError(Exception):
    """An attempt that cannot go on."""

    reason: ClassVar[FailureReason]


class InvalidSpec(WorkerError):
    """The spec asks for what this process cannot do."""

    reason = FailureReason.INVALID_SPEC


class ResumeRefused(InvalidSpec):
    """The checkpoint to go on from is of a run with another spec, teacher or dataset."""


class DatasetError(WorkerError):
    """The dataset is missing, unreadable, or not the one that was meant."""

    reason = FailureReason.DATASET_ERROR


class TeacherMismatch(WorkerError):
    """The teacher's checkpoint is missing, not the one that was meant, or does not fit."""

    reason = FailureReason.TEACHER_MISMATCH


class ModelMismatch(WorkerError):
    """The checkpoint of a model that is measured or exported is missing, or does not fit."""

    reason = FailureReason.MODEL_MISMATCH


class ExportDiffers(WorkerError):
    """An exported file does not find what the original finds."""

    reason = FailureReason.EXPORT_DIFFERS


class NanLoss(WorkerError):
    """A loss is infinite or not a number."""

    reason = FailureReason.NAN_LOSS


class PackOutOfMemory(WorkerError):
    """A GPU has no memory for this student beside the others of its pack; alone it may have."""

    reason = FailureReason.PACK_OUT_OF_MEMORY

    def __init__(self, num_others: int, error: Exception) -> None:
        super().__init__(
            f"There is no memory for it beside {num_others} others of its pack: {error}"
        )
        self.__cause__ = error


class GpuUnavailable(WorkerError):
    """The cluster gave this process a GPU that it cannot compute on; another node may do."""

    reason = FailureReason.NODE_LOST


class Preempted(WorkerError):
    """The machine asked the process to leave."""

    reason = FailureReason.PREEMPTED


class StopRequested(Exception):
    """The service asked the attempt to leave: the run ends, or goes on later."""

    def __init__(self, kind: StopKind) -> None:
        super().__init__(_WISHES[kind])
        self.ends_run = kind == "cancel"


class Superseded(Exception):
    """A newer attempt of the same run has taken over."""
