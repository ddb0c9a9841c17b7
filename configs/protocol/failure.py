"""Why an attempt ended badly: data, from which retry, final state and advice follow."""

from enum import StrEnum


class FailureReason(StrEnum):
    """The causes that the service and the workers tell apart."""

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
        "Lower data.batch_size or data.image_size; or keep both and raise compute.grad_accumulation_steps, set "
        "compute.activation_checkpointing, or use compute.precision bf16."
    ),
    FailureReason.HOST_OUT_OF_MEMORY: (
        "The run goes on by itself after a pause, for it may have been a neighbour's doing; if it "
        "comes again, lower data.num_workers, data.batch_size or data.image_size, or raise "
        "compute.grad_accumulation_steps."
    ),
    FailureReason.PACK_OUT_OF_MEMORY: (
        "Nothing to do: the run goes on by itself, from its last checkpoint. Say a smaller pack "
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
        "Name the model with the architecture and classes that its checkpoint has."
    ),
    FailureReason.EXPORT_DIFFERS: (
        "Do not use the file. Raise the tolerance if the difference is harmless, else report it."
    ),
    FailureReason.NODE_LOST: (
        "The run goes on from its last checkpoint, elsewhere if the node fails again. If the "
        "message names a GPU or its driver, run `tandem-worker doctor` on that node."
    ),
    FailureReason.PREEMPTED: "Nothing to do: the run goes on from its last checkpoint.",
    FailureReason.STALLED: "Look at `tandem logs`; the run goes on from its last checkpoint.",
    FailureReason.DISK_FULL: (
        "The run goes on by itself after a pause; free space under its folder, or set "
        "checkpoints.max_gib."
    ),
    FailureReason.TRACKER_UNAVAILABLE: "Start MLflow again with `tandem up`; nothing was lost.",
    FailureReason.INVALID_SPEC: "Correct the spec; `tandem run PRESET --plan` shows what is wrong.",
    FailureReason.DEPENDENCY_FAILED: (
        "Mend the run that it waits for with `tandem retry`, then retry this one."
    ),
    FailureReason.BUG: "Read the traceback in `tandem logs` and report it.",
}


def is_retryable(reason: FailureReason) -> bool:
    """Whether another attempt may end differently with nothing changed."""
    return reason in _RETRYABLE


def advice(reason: FailureReason) -> str:
    """What a person can do about it, in one sentence."""
    return _ADVICE[reason]
