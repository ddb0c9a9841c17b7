"""What training costs: processes, precision, memory, and what is kept on disk."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.spec.base import Contract

Precision = Literal["fp32", "tf32", "bf16", "fp16"]


class Resources(Contract):
    """What an attempt takes of the cluster."""

    processes: Annotated[int, Field(ge=1, le=512)] = 1
    """Training processes, each with a share of every batch."""

    min_processes: Annotated[int, Field(ge=1, le=512)] | None = None
    """Go on with as few as these when nodes are lost; none: always `processes`.

    Every batch is then cut into more parts, one after the other, so its size stays.
    """

    num_cpus: Annotated[int, Field(ge=1, le=256)] = 1
    """Cores of each process, and threads of the numeric libraries."""

    num_gpus: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of each process: one, or none to train on the CPU."""

    @model_validator(mode="after")
    def _fewer_is_fewer(self) -> Self:
        if self.min_processes is not None and self.min_processes >= self.processes:
            raise ValueError(
                f"min_processes is {self.min_processes} and processes {self.processes}: it has no "
                "effect unless it is smaller"
            )
        return self


class Compute(Contract):
    """How a step is computed: less precision and memory, the same method."""

    precision: Precision = "fp32"
    """Of the student's forward pass; weights, losses and decoded boxes stay fp32.

    fp32 is IEEE fp32 everywhere. tf32 is for GPUs from NVIDIA Ampere on, and recommended there for
    training: convolutions and matrix products, forward and backward, use 10 bits of the mantissa
    inside. Evaluation is always in fp32.
    """

    teacher_precision: Precision | None = None
    """Of the teacher's forward pass; none: the student's."""

    channels_last: bool = False
    """Keep images and features as NHWC, which tensor cores and AVX prefer."""

    grad_accumulation_steps: Annotated[int, Field(ge=1, le=256)] = 1
    """Parts that a process cuts its share of the batch into, one after the other."""

    activation_checkpointing: bool = False
    """Compute the backbone's features twice rather than keep them (gradient checkpointing)."""

    sync_bn: bool = False
    """BatchNorm over the images of all processes; GPUs only."""

    deterministic: bool = True
    """Have a GPU choose algorithms that repeat themselves bit for bit on the same GPU and software.

    It holds for convolutions and for torch's operators that have such an algorithm. It does not
    hold for mmcv's deformable convolutions (VFNet, DCN backbones), nor from one kind of GPU to
    another. A CPU always repeats itself.
    """


class Checkpoints(Contract):
    """What a run writes to go on from, and what it keeps. Every epoch's end is written."""

    every_minutes: Annotated[float, Field(gt=0.0)] | None = 10.0
    """Also in the middle of an epoch, when the last one is so old; none: not."""

    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Also after every so many steps."""

    keep_last: Annotated[int, Field(ge=1, le=1000)] = 2
    """Checkpoints to go on from; a damaged one falls back to the one before."""

    keep_best: Annotated[int, Field(ge=1, le=1000)] = 1
    """Students with the best mAP, without optimizer."""

    keep_every_epochs: Annotated[int, Field(ge=1)] | None = None
    """Keep every so manieth epoch's checkpoint for good."""

    max_gib: Annotated[float, Field(gt=0.0)] | None = None
    """Budget of the run's checkpoints: the oldest go first, the last and the best never."""
