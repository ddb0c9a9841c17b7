"""How the teacher teaches: only knobs that do something."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.spec.base import Contract

Weight = Annotated[float, Field(ge=0.0, le=1000.0)]
"""Weight of a term of the loss; 0 turns it off and costs nothing."""

PositiveWeight = Annotated[float, Field(gt=0.0, le=1000.0)]
Temperature = Annotated[float, Field(gt=0.0, le=100.0)]


class NoDistillation(Contract):
    """The student learns from the labels alone: teachers and baselines."""

    method: Literal["none"] = "none"


class LogitKd(Contract):
    """Softmax distributions over the classes, softened (Hinton et al., 2015), at positives."""

    method: Literal["logit_kd"] = "logit_kd"
    weight: PositiveWeight = 1.0
    temperature: Temperature = 2.0


class Ld(Contract):
    """Localization Distillation (Zheng et al., CVPR 2022): distributions of the box edges.

    Both detectors need GFL heads with the same `reg_max`.
    """

    method: Literal["ld"] = "ld"
    main_weight: Weight = 0.25
    """Weight at positive positions."""

    vlr_weight: Weight = 0.0
    """Weight in the valuable localization region: near an object, yet not positive."""

    vlr_gamma: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """The region begins at this share of the positive threshold; 0.25 where none is given."""

    temperature: Temperature = 10.0

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.main_weight == 0.0 and self.vlr_weight == 0.0:
            raise ValueError("main_weight and vlr_weight are both 0, so nothing is distilled")
        if self.vlr_gamma is not None and self.vlr_weight == 0.0:
            raise ValueError("vlr_gamma has no effect while vlr_weight is 0; raise it, or leave it")
        return self


class FineGrained(Contract):
    """Features near objects are imitated (Wang et al., CVPR 2019)."""

    method: Literal["fine_grained"] = "fine_grained"
    weight: PositiveWeight = 0.01
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """An anchor is near an object from this share of the object's best IoU on."""


class Pkd(Contract):
    """Features are imitated up to scale and shift of each channel (Cao et al., NeurIPS 2022)."""

    method: Literal["pkd"] = "pkd"
    weight: PositiveWeight = 6.0


class Cwd(Contract):
    """Where each channel of the features looks is imitated (Shu et al., ICCV 2021)."""

    method: Literal["cwd"] = "cwd"
    weight: PositiveWeight = 10.0
    temperature: Temperature = 1.0


class CrossKd(Contract):
    """The student's features go through the rest of the teacher's head (Wang et al., CVPR 2024).

    Its predictions there imitate the teacher's. Both heads are of one kind, with towers.
    """

    method: Literal["crosskd"] = "crosskd"
    cls_weight: Weight = 1.0
    loc_weight: Weight = 4.0
    after_convs: Annotated[int, Field(ge=0, le=7)] = 3
    """The student's features cross over after so many convolutions of the towers."""

    temperature: Temperature | None = None
    """For the edge distributions of GFL heads; 1 where none is given."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        _require_one(self.cls_weight, self.loc_weight)
        if self.temperature is not None and self.loc_weight == 0.0:
            raise ValueError("temperature has no effect while loc_weight is 0")
        return self


class ExtraMethods(Contract):
    """Methods that teach beside BCKD, each with its own weights."""

    logit_kd: LogitKd | None = None
    ld: Ld | None = None
    fine_grained: FineGrained | None = None
    pkd: Pkd | None = None
    cwd: Cwd | None = None
    crosskd: CrossKd | None = None


class Bckd(Contract):
    """Bridging Cross-task Protocol Inconsistency (Yang et al., ICCV 2023)."""

    method: Literal["bckd"] = "bckd"

    cls_weight: Weight = 1.0
    """Weight of the binary classification distillation; the paper's alpha1. 0 turns it off."""

    loc_weight: Weight = 4.0
    """Weight of the IoU-based localization distillation; the paper's alpha2. 0 turns it off."""

    levels: Literal["with_positives", "all"] = "with_positives"
    """Feature levels that teach: those with a positive position, as published, or every one."""

    extra: ExtraMethods = ExtraMethods()
    """Other methods at the same time, as in `also: {pkd: {weight: 6}}`."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        _require_one(self.cls_weight, self.loc_weight)
        return self


Method = Bckd | LogitKd | Ld | FineGrained | Pkd | Cwd | CrossKd
"""A method that needs a teacher."""

Distillation = Annotated[NoDistillation | Method, Field(discriminator="method")]


def iter_methods(distillation: Distillation) -> Iterator[Method]:
    """Every method at work: the chosen one, and those beside it."""
    if isinstance(distillation, NoDistillation):
        return
    yield distillation
    if isinstance(distillation, Bckd):
        for name in ExtraMethods.model_fields:
            companion = getattr(distillation.extra, name)
            if companion is not None:
                yield companion


def _require_one(cls_weight: float, loc_weight: float) -> None:
    if cls_weight == 0.0 and loc_weight == 0.0:
        raise ValueError(
            "cls_weight and loc_weight are both 0, so nothing is distilled; "
            "raise one of them, or say method: none and leave the teacher out"
        )
