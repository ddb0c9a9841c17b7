"""Results of a probe: which parameters have an effect, and what a training step costs."""

from typing import Annotated

from pydantic import Field

from configs.spec.base import OMIT_IF_NONE, Contract


class ParameterEffect(Contract):
    """Whether a parameter changes the training at all."""

    has_effect: bool
    detail: str
    """What changes first: the losses, the gradient, the first update, the learning rate of a later
    step, the student's shape; or why nothing changes."""


class Costs(Contract):
    """Seconds and bytes on the probed machine, with the precision and batch size of the spec."""

    load_s: Annotated[float, Field(ge=0.0)]
    """Seconds to load one batch."""

    teacher_s: Annotated[float, Field(ge=0.0)]
    """T: the teacher's forward pass of one batch."""

    student_s: Annotated[float, Field(ge=0.0)]
    """S: one step of a student without the teacher's forward pass."""

    evaluation_s: Annotated[float, Field(ge=0.0)]
    """Seconds to evaluate all validation images, estimated from a few."""

    steps_per_epoch: Annotated[int, Field(ge=1)]
    base_bytes: Annotated[int, Field(ge=0)]
    """Peak memory of a step with one student: with the largest batch, and with a measurement of the
    loss shares if the run takes them."""

    member_bytes: Annotated[int, Field(ge=0)]
    """Memory that each further student of a pack adds."""

    available_bytes: Annotated[int, Field(ge=0)]
    """Memory that a pack may use: that of the device, or the host's free memory."""

    latency_s: Annotated[Annotated[float, Field(ge=0.0)] | None, OMIT_IF_NONE] = None
    """Median seconds from one loaded image to its boxes: forward pass, decoding and NMS, in batches
    of one. Of the untrained student, whose NMS gets fewer boxes than after training. None in
    results of earlier versions."""

    device: str
    """Name of the device. The numbers do not hold for another kind of device."""


class StartWeight(Contract):
    """The first value of a weight that moves."""

    weight: float
    share: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """The share of its term's gradient on the probed batch, with that weight. None for a schedule,
    or if the term has no gradient on the batch."""

    balanced_weight: float | None = None
    """The weight with which the term would have the share that it follows, on the probed batch.
    None where there is no share."""


class Probe(Contract):
    """The result of a probe."""

    effects: dict[str, ParameterEffect]
    costs: Costs
    detection_loss: float
    """Detection loss of the untrained student on the probed batch."""

    unit_losses: dict[str, float]
    """Each distillation term at weight 1, by the field of its weight."""

    weights: dict[str, StartWeight] = Field(default_factory=dict)
    """The weights that move, by field."""

    teacher_map: float | None = None
    """mAP on the validation images of the spec. None if it was not measured."""


def max_pack_size(costs: Costs) -> int:
    """The number of students that fit into memory; at least the one that was measured."""
    free_bytes = costs.available_bytes - costs.base_bytes
    return 1 + max(0, free_bytes // max(1, costs.member_bytes))
