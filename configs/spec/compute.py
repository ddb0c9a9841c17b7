"""Resources, precision and memory of training, and the checkpoints that it keeps."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.spec.base import Contract

Precision = Literal["fp32", "tf32", "bf16", "fp16"]


class Resources(Contract):
    """Cluster resources of an attempt."""

    processes: Annotated[int, Field(ge=1, le=512)] = 1
    """Training processes; each one gets an equal share of every batch."""

    min_processes: Annotated[int, Field(ge=1, le=512)] | None = None
    """Minimum number of processes to continue with when nodes are lost. None to always wait for
    `processes`.

    With fewer processes each batch is split into more micro-batches, so its size stays the same.
    """

    num_cpus: Annotated[int, Field(ge=1, le=256)] = 1
    """Cores of each process, and threads of its numeric libraries."""

    num_gpus: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of each process: 1, or 0 to train on the CPU."""

    @model_validator(mode="after")
    def _check_min_processes(self) -> Self:
        if self.min_processes is not None and self.min_processes >= self.processes:
            raise ValueError(
                f"min_processes is {self.min_processes} and processes {self.processes}: it has no "
                "effect unless it is smaller"
            )
        return self


class Compute(Contract):
    """Precision and memory of a training step, without a change of the method."""

    precision: Precision = "fp32"
    """Precision of the student's forward pass; weights, losses and decoded boxes stay fp32.

    fp32 is IEEE fp32 everywhere. tf32 needs a GPU from NVIDIA Ampere on, and is recommended there
    for training: convolutions and matrix products, forward and backward, use a 10-bit mantissa
    internally. Evaluation is always in fp32.
    """

    teacher_precision: Precision | None = None
    """Precision of the teacher's forward pass. None for that of the student."""

    channels_last: bool = False
    """Keep images and features in NHWC layout, which is faster on tensor cores and with AVX."""

    grad_accumulation_steps: Annotated[int, Field(ge=1, le=256)] = 1
    """Micro-batches that each process splits its share of a batch into."""

    activation_checkpointing: bool = False
    """Recompute the backbone's features in the backward pass instead of storing them."""

    sync_bn: bool = False
    """Synchronize BatchNorm over all processes; GPUs only."""

    deterministic: bool = True
    """Use deterministic GPU algorithms: equal results, bit for bit, on the same GPU and software.

    It covers convolutions and those of torch's operators that have such an algorithm. It does not
    cover mmcv's deformable convolutions (VFNet, TOOD, DCN backbones), nor different kinds of GPUs.
    A CPU is always deterministic.

    `false` allows kernels that add in any order, and has cuDNN time its algorithms for each new
    image size: faster where sizes repeat, but a repeated or resumed run ends with other digits.
    """


class Checkpoints(Contract):
    """When a run writes checkpoints besides each end of an epoch, and which ones it keeps."""

    every_minutes: Annotated[float, Field(gt=0.0)] | None = 10.0
    """Also within an epoch when the last checkpoint is this old. None for no such checkpoints."""

    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Also every so many steps. None for no such checkpoints."""

    keep_last: Annotated[int, Field(ge=1, le=1000)] = 2
    """Number of newest checkpoints to keep; the run skips a damaged one when it resumes."""

    keep_best: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of students with the best mAP to keep, without optimizer state."""

    keep_every_epochs: Annotated[int, Field(ge=1)] | None = None
    """Keep the checkpoint of every n-th epoch permanently."""

    max_gib: Annotated[float, Field(gt=0.0)] | None = None
    """Maximum size of all checkpoints: the oldest are deleted first, the last and best never."""
