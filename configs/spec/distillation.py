"""How the teacher teaches: only knobs that do something."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.spec.base import Contract


class NoDistillation(Contract):
    """The student learns from the labels alone: teachers and baselines."""

    method: Literal["none"] = "none"


class Bckd(Contract):
    """Bridging Cross-task Protocol Inconsistency (Yang et al., ICCV 2023)."""

    method: Literal["bckd"] = "bckd"

    cls_weight: Annotated[float, Field(ge=0.0, le=1000.0)] = 1.0
    """Weight of the binary classification distillation; the paper's alpha1. 0 turns it off."""

    loc_weight: Annotated[float, Field(ge=0.0, le=1000.0)] = 4.0
    """Weight of the IoU-based localization distillation; the paper's alpha2. 0 turns it off."""

    levels: Literal["with_positives", "all"] = "with_positives"
    """Feature levels that teach: those with a positive position, as published, or every one."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.cls_weight == 0.0 and self.loc_weight == 0.0:
            raise ValueError(
                "cls_weight and loc_weight are both 0, so nothing is distilled; "
                "raise one of them, or say method: none and leave the teacher out"
            )
        return self


Distillation = Annotated[NoDistillation | Bckd, Field(discriminator="method")]
