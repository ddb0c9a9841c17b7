"""What a probe found: parameters without effect, and what a step costs."""

from typing import Annotated

from pydantic import Field

from configs.spec.base import Contract


class ParameterEffect(Contract):
    """Whether a parameter moves anything."""

    has_effect: bool
    detail: str
    """What it moved first: the losses, the gradient, the first update, the learning rate of a later
    step, the student's shape; or why nothing."""


class Costs(Contract):
    """Seconds and bytes on the machine that was probed, fp and batch as in the spec."""

    load_s: Annotated[float, Field(ge=0.0)]
    """Of one batch, before anything looks at it."""

    teacher_s: Annotated[float, Field(ge=0.0)]
    """T: the teacher's forward of one batch."""

    student_s: Annotated[float, Field(ge=0.0)]
    """S: one step of a student without the teacher's forward."""

    evaluation_s: Annotated[float, Field(ge=0.0)]
    """Of all validation images, estimated from a few."""

    steps_per_epoch: Annotated[int, Field(ge=1)]
    base_bytes: Annotated[int, Field(ge=0)]
    """Of memory with one student, at the peak of a step: with the largest batch, and with a look
    at the losses where the run takes them."""

    member_bytes: Annotated[int, Field(ge=0)]
    """What each further student of a pack adds."""

    available_bytes: Annotated[int, Field(ge=0)]
    """Memory that a pack may have: the device's, or the host's that is free."""

    device: str
    """What was measured, by its name. None of these numbers holds for another kind of device."""


class Probe(Contract):
    """One probe's result."""

    effects: dict[str, ParameterEffect]
    costs: Costs
    detection_loss: float
    """Of the student at its beginning, on the batch."""

    unit_losses: dict[str, float]
    """Of each weighted distillation term, by the field of its weight, at weight 1."""

    teacher_map: float | None = None
    """On the validation images that the spec names; none where they were not measured."""


def max_pack_size(costs: Costs) -> int:
    """How many students a pack has room for; one at least, for that one was measured."""
    room = costs.available_bytes - costs.base_bytes
    return 1 + max(0, room // max(1, costs.member_bytes))
