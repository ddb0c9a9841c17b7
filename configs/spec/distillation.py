"""Distillation methods. Settings without an effect are refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic.fields import FieldInfo

from configs.spec.base import OMIT_IF_NONE, Contract
from configs.spec.installed_methods import ExtraInstalledMethods, InstalledMethod, Need
from configs.spec.weights import PositiveWeight, Weight

Temperature = Annotated[float, Field(gt=0.0, le=100.0)]


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

    needs_labels: bool = True
    """Whether it reads which positions are of objects; otherwise images without labels suffice."""


class MethodSpec(Contract):
    """The fields of a distillation method."""

    traits: ClassVar[MethodTraits]
    method: str

    @model_validator(mode="before")
    @classmethod
    def _fill_in_values(cls, fields: Any) -> Any:
        """The plain default of a weight is the `value` of one that moves and does not give it."""
        if not isinstance(fields, Mapping):
            return fields
        return {
            name: _fill_in_value(weight, cls.model_fields.get(name))
            for name, weight in fields.items()
        }

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

    traits = MethodTraits(
        "PKD", needs=frozenset({"features"}), terms={"weight": "pkd"}, needs_labels=False
    )

    method: Literal["pkd"] = "pkd"
    weight: PositiveWeight = 6.0


class Cwd(MethodSpec):
    """Channel-wise distillation of spatial attention maps (Shu et al., ICCV 2021)."""

    traits = MethodTraits(
        "CWD", needs=frozenset({"features"}), terms={"weight": "cwd"}, needs_labels=False
    )

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
        _check_any_weight(self)
        if self.temperature is not None and self.loc_weight == 0.0:
            raise ValueError("temperature has no effect while loc_weight is 0")
        return self


class Dist(MethodSpec):
    """DIST (Huang et al., NeurIPS 2022): correlations of the class scores at positive positions.

    The weights are those of the authors' RetinaNet. Three or more classes are needed for
    `inter_weight`: two values always correlate by 1 or -1, which has no gradient.
    """

    traits = MethodTraits(
        "DIST",
        needs=frozenset({"positions"}),
        terms={"inter_weight": "dist_inter", "intra_weight": "dist_intra"},
    )

    method: Literal["dist"] = "dist"
    inter_weight: Weight = 1.0
    """Weight of the correlation over the classes of each position; the paper's beta."""

    intra_weight: Weight = 1.0
    """Weight of the correlation over the positions for each class; the paper's gamma."""

    @model_validator(mode="after")
    def _check_has_effect(self) -> Self:
        _check_any_weight(self)
        return self


class Mgd(MethodSpec):
    """MGD (Yang et al., ECCV 2022): the teacher's features, generated from masked ones.

    Weight and ratio are those of the authors' one-stage detectors.
    """

    traits = MethodTraits(
        "MGD", needs=frozenset({"features"}), terms={"weight": "mgd"}, needs_labels=False
    )

    method: Literal["mgd"] = "mgd"
    weight: PositiveWeight = 2e-5
    """The paper's alpha. The loss is a sum over channels and locations, so it is small."""

    mask_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.65
    """Fraction of the student's locations that are masked; the paper's lambda."""


class Fgd(MethodSpec):
    """FGD (Yang et al., CVPR 2022): focal and global distillation of features.

    Weights and temperature are those of the authors' RetinaNet and GFL, whose students begin with
    the teacher's neck and head (`student.inherit`). For FCOS their weights are 1.6 times as large,
    at a temperature of 0.8.
    """

    traits = MethodTraits(
        "FGD",
        needs=frozenset({"features"}),
        terms={
            "foreground_weight": "fgd_foreground",
            "background_weight": "fgd_background",
            "attention_weight": "fgd_attention",
            "relation_weight": "fgd_relation",
        },
    )

    method: Literal["fgd"] = "fgd"
    foreground_weight: Weight = 1e-3
    """Weight of the features within boxes; the paper's alpha."""

    background_weight: Weight = 5e-4
    """Weight of the features outside of all boxes; the paper's beta."""

    attention_weight: Weight = 5e-4
    """Weight of the attention over locations and over channels; the paper's gamma."""

    relation_weight: Weight = 5e-6
    """Weight of the features with the context of the whole map; the paper's lambda."""

    temperature: Temperature | None = None
    """Temperature of the attention. None for 0.5."""

    @model_validator(mode="after")
    def _check_has_effect(self) -> Self:
        _check_any_weight(self)
        uses_attention = self.foreground_weight or self.background_weight or self.attention_weight
        if self.temperature is not None and not uses_attention:
            raise ValueError("temperature has no effect while only relation_weight is above 0")
        return self


class ExtraMethods(Contract):
    """Methods in addition to BCKD, each with its own weights."""

    logit_kd: LogitKd | None = None
    ld: Ld | None = None
    fine_grained: FineGrained | None = None
    pkd: Pkd | None = None
    cwd: Cwd | None = None
    crosskd: CrossKd | None = None
    dist: Annotated[Dist | None, OMIT_IF_NONE] = None
    mgd: Annotated[Mgd | None, OMIT_IF_NONE] = None
    fgd: Annotated[Fgd | None, OMIT_IF_NONE] = None
    installed: Annotated[ExtraInstalledMethods | None, OMIT_IF_NONE] = None
    """Methods of other packages, as in `installed: {mgd_plus: {fields: {weight: 2e-5}}}`."""


class Bckd(MethodSpec):
    """Bridging Cross-task Protocol Inconsistency (Yang et al., ICCV 2023)."""

    traits = MethodTraits(
        "BCKD",
        needs=frozenset({"positions"}),
        terms={"cls_weight": "distill_cls", "loc_weight": "distill_loc"},
        needs_labels=False,
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
        _check_any_weight(self)
        return self


Method = Bckd | LogitKd | Ld | FineGrained | Pkd | Cwd | CrossKd | Dist | Mgd | Fgd
"""A distillation method whose fields are known here."""

Distillation = Annotated[NoDistillation | Method | InstalledMethod, Field(discriminator="method")]


def _fill_in_value(weight: Any, field: FieldInfo | None) -> Any:
    is_without_value = isinstance(weight, Mapping) and "value" not in weight
    if not is_without_value or field is None or not isinstance(field.default, float):
        return weight
    return {**weight, "value": field.default} if field.default else weight


def _check_any_weight(method: MethodSpec) -> None:
    *names, last = method.traits.terms
    if all(getattr(method, name) == 0.0 for name in (*names, last)):
        raise ValueError(
            f"{', '.join(names)} and {last} are {'both' if len(names) == 1 else 'all'} 0, so "
            "nothing is distilled; raise one of them, or set method: none and remove the teacher"
        )
