"""Distillation methods. Settings without an effect are refused."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from configs.spec.base import Contract

Weight = Annotated[float, Field(ge=0.0, le=1000.0)]
"""Weight of a term of the loss; 0 turns it off and costs nothing."""

PositiveWeight = Annotated[float, Field(gt=0.0, le=1000.0)]
Temperature = Annotated[float, Field(gt=0.0, le=100.0)]

Need = Literal["features", "positions", "edges", "towers"]
"""What a method reads of both detectors: feature maps; predictions at the same positions, one by
one; edges as distributions over the same bins; towers of the same kind of head."""


@dataclass(frozen=True)
class MethodTraits:
    """What is known of a method without its code."""

    title: str
    """Its name in reports."""

    needs: frozenset[Need]
    terms: Mapping[str, str]
    """The loss term of each weight, without `loss_`."""

    version: str = "1"
    """Another one where the same fields give other numbers."""


class MethodSpec(Contract):
    """The fields of a distillation method."""

    traits: ClassVar[MethodTraits]
    method: str

    @classmethod
    def name(cls) -> str:
        """The method's name in a spec."""
        return str(cls.model_fields["method"].default)


class NoDistillation(Contract):
    """Training from labels only, for teachers and baselines."""

    method: Literal["none"] = "none"


class LogitKd(MethodSpec):
    """Softened class distributions (Hinton et al., 2015) at positive positions."""

    traits = MethodTraits("logit KD", needs=frozenset({"positions"}), terms={"weight": "logit_kd"})

    method: Literal["logit_kd"] = "logit_kd"
    weight: PositiveWeight = 1.0
    temperature: Temperature = 2.0


class Ld(MethodSpec):
    """Localization Distillation (Zheng et al., CVPR 2022): distributions of the box edges.

    Both detectors need GFL heads with the same `reg_max`.
    """

    traits = MethodTraits(
        "LD", needs=frozenset({"edges"}), terms={"main_weight": "ld_main", "vlr_weight": "ld_vlr"}
    )

    method: Literal["ld"] = "ld"
    main_weight: Weight = 0.25
    """Weight at positive positions."""

    vlr_weight: Weight = 0.0
    """Weight in the valuable localization region: near an object, yet not positive."""

    vlr_gamma: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """The region starts at this fraction of the positive threshold. None for 0.25."""

    temperature: Temperature = 10.0

    @model_validator(mode="after")
    def _check_has_effect(self) -> Self:
        if self.main_weight == 0.0 and self.vlr_weight == 0.0:
            raise ValueError("main_weight and vlr_weight are both 0, so nothing is distilled")
        if self.vlr_gamma is not None and self.vlr_weight == 0.0:
            raise ValueError(
                "vlr_gamma has no effect while vlr_weight is 0; raise it, or leave it out"
            )
        return self


class FineGrained(MethodSpec):
    """Fine-grained feature imitation: features near objects (Wang et al., CVPR 2019)."""

    traits = MethodTraits(
        "fine-grained", needs=frozenset({"features"}), terms={"weight": "fine_grained"}
    )

    method: Literal["fine_grained"] = "fine_grained"
    weight: PositiveWeight = 0.01
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Minimum IoU of an anchor near an object, as a fraction of the object's best IoU."""


class Pkd(MethodSpec):
    """PKD: feature imitation up to scale and shift of each channel (Cao et al., NeurIPS 2022)."""

    traits = MethodTraits("PKD", needs=frozenset({"features"}), terms={"weight": "pkd"})

    method: Literal["pkd"] = "pkd"
    weight: PositiveWeight = 6.0


class Cwd(MethodSpec):
    """Channel-wise distillation of spatial attention maps (Shu et al., ICCV 2021)."""

    traits = MethodTraits("CWD", needs=frozenset({"features"}), terms={"weight": "cwd"})

    method: Literal["cwd"] = "cwd"
    weight: PositiveWeight = 10.0
    temperature: Temperature = 1.0


class CrossKd(MethodSpec):
    """CrossKD (Wang et al., CVPR 2024): the student's features pass through the teacher's head.

    The resulting predictions imitate those of the teacher. Both heads must be of one kind, with
    towers.
    """

    traits = MethodTraits(
        "CrossKD",
        needs=frozenset({"towers"}),
        terms={"cls_weight": "crosskd_cls", "loc_weight": "crosskd_loc"},
    )

    method: Literal["crosskd"] = "crosskd"
    cls_weight: Weight = 1.0
    loc_weight: Weight = 4.0
    after_convs: Annotated[int, Field(ge=0, le=7)] = 3
    """Number of convolutions of the student's towers before its features go to the teacher's."""

    temperature: Temperature | None = None
    """Temperature of the edge distributions of GFL heads. None for 1."""

    @model_validator(mode="after")
    def _check_has_effect(self) -> Self:
        _check_any_weight(self.cls_weight, self.loc_weight)
        if self.temperature is not None and self.loc_weight == 0.0:
            raise ValueError("temperature has no effect while loc_weight is 0")
        return self


class ExtraMethods(Contract):
    """Methods in addition to BCKD, each with its own weights."""

    logit_kd: LogitKd | None = None
    ld: Ld | None = None
    fine_grained: FineGrained | None = None
    pkd: Pkd | None = None
    cwd: Cwd | None = None
    crosskd: CrossKd | None = None


class Bckd(MethodSpec):
    """Bridging Cross-task Protocol Inconsistency (Yang et al., ICCV 2023)."""

    traits = MethodTraits(
        "BCKD",
        needs=frozenset({"positions"}),
        terms={"cls_weight": "distill_cls", "loc_weight": "distill_loc"},
    )

    method: Literal["bckd"] = "bckd"

    cls_weight: Weight = 1.0
    """Weight of the binary classification distillation; the paper's alpha1. 0 turns it off."""

    loc_weight: Weight = 4.0
    """Weight of the IoU-based localization distillation; the paper's alpha2. 0 turns it off."""

    levels: Literal["with_positives", "all"] = "with_positives"
    """Feature levels to distill: those with a positive position, as published, or all."""

    extra: ExtraMethods = ExtraMethods()
    """Additional methods, as in `extra: {pkd: {weight: 6}}`."""

    @model_validator(mode="after")
    def _check_has_effect(self) -> Self:
        _check_any_weight(self.cls_weight, self.loc_weight)
        return self


Method = Bckd | LogitKd | Ld | FineGrained | Pkd | Cwd | CrossKd
"""A distillation method."""

Distillation = Annotated[NoDistillation | Method, Field(discriminator="method")]


def iter_methods(distillation: Distillation) -> Iterator[Method]:
    """All active methods: the chosen one and the extra ones."""
    if isinstance(distillation, NoDistillation):
        return
    yield distillation
    if isinstance(distillation, Bckd):
        for name in ExtraMethods.model_fields:
            method = getattr(distillation.extra, name)
            if method is not None:
                yield method


def _check_any_weight(cls_weight: float, loc_weight: float) -> None:
    if cls_weight == 0.0 and loc_weight == 0.0:
        raise ValueError(
            "cls_weight and loc_weight are both 0, so nothing is distilled; "
            "raise one of them, or set method: none and remove the teacher"
        )
