"""Reasons of failed attempts; retries, final states and advice follow from them."""

from enum import StrEnum


class FailureReason(StrEnum):
    """Why an attempt failed."""

    CUDA_OUT_OF_MEMORY = "cuda_out_of_memory"
    HOST_OUT_OF_MEMORY = "host_out_of_memory"
    PACK_OUT_OF_MEMORY = "pack_out_of_memory"
    NAN_LOSS = "nan_loss"
    DATASET_ERROR = "dataset_error"
    TEACHER_MISMATCH = "teacher_mismatch"
    MODEL_MISMATCH = "model_mismatch"
    EXPORT_DIFFERS = "export_differs"
    NODE_LOST = "node_lost"
    PREEMPTED = "preempted"
    STALLED = "stalled"
    DISK_FULL = "disk_full"
    TRACKER_UNAVAILABLE = "tracker_unavailable"
    INVALID_SPEC = "invalid_spec"
    DEPENDENCY_FAILED = "dependency_failed"
    BUG = "bug"


_RETRYABLE = frozenset(
    {
        FailureReason.NODE_LOST,
        FailureReason.PREEMPTED,
        FailureReason.STALLED,
        FailureReason.DISK_FULL,
        FailureReason.HOST_OUT_OF_MEMORY,
        FailureReason.PACK_OUT_OF_MEMORY,
        FailureReason.TRACKER_UNAVAILABLE,
    }
)

_ADVICE = {
    FailureReason.CUDA_OUT_OF_MEMORY: (
        "Lower data.batch_size or data.image_size; or keep both and raise "
        "compute.grad_accumulation_steps, set compute.activation_checkpointing, or use "
        "compute.precision bf16."
    ),
    FailureReason.HOST_OUT_OF_MEMORY: (
        "The run resumes by itself after a pause, since another process may have used the memory; "
        "if it happens again, lower data.num_workers, data.batch_size or data.image_size, or raise "
        "compute.grad_accumulation_steps."
    ),
    FailureReason.PACK_OUT_OF_MEMORY: (
        "Nothing to do: the run resumes by itself, from its last checkpoint. Choose a smaller pack "
        "for the next sweep."
    ),
    FailureReason.NAN_LOSS: (
        "Lower schedule.optimizer.lr or the distillation weights, set schedule.max_grad_norm, or "
        "use compute.precision bf16 in place of fp16; nan_batch.json names the images of the step."
    ),
    FailureReason.DATASET_ERROR: (
        "Import the dataset again; `tandem data import-coco` and `import-voc` list every problem."
    ),
    FailureReason.TEACHER_MISMATCH: (
        "Register the teacher with the architecture and classes that its checkpoint has."
    ),
    FailureReason.MODEL_MISMATCH: (
        "Give the model the architecture and classes that its checkpoint has."
    ),
    FailureReason.EXPORT_DIFFERS: (
        "Do not use the file. Raise the tolerance if the difference is harmless, else report it."
    ),
    FailureReason.NODE_LOST: (
        "The run resumes from its last checkpoint, on another node if this one fails again. If the "
        "message names a GPU or its driver, run `tandem-worker doctor` on that node."
    ),
    FailureReason.PREEMPTED: "Nothing to do: the run resumes from its last checkpoint.",
    FailureReason.STALLED: "See `tandem logs`; the run resumes from its last checkpoint.",
    FailureReason.DISK_FULL: (
        "The run resumes by itself after a pause; free space under its folder, or set "
        "checkpoints.max_gib."
    ),
    FailureReason.TRACKER_UNAVAILABLE: "Start MLflow again with `tandem up`; no data was lost.",
    FailureReason.INVALID_SPEC: "Correct the spec; `tandem run PRESET --plan` shows what is wrong.",
    FailureReason.DEPENDENCY_FAILED: (
        "Fix the run that it waits for and `tandem retry` it, then retry this one."
    ),
    FailureReason.BUG: "Read the traceback in `tandem logs` and report it.",
}


def is_retryable(reason: FailureReason) -> bool:
    """Whether another attempt may succeed without any change."""
    return reason in _RETRYABLE


def advice(reason: FailureReason) -> str:
    """What the user can do about a failure."""
    return _ADVICE[reason]
