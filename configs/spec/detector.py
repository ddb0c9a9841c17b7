"""Which detector: the words for a teacher's or a student's architecture."""

from typing import Annotated, Literal

from pydantic import Field

from configs.spec.base import Contract

STRIDES = (8, 16, 32, 64, 128)
"""Pixels between the positions of each feature level."""


class ResNet(Contract):
    """A ResNet backbone (He et al., 2016), whole or thinned."""

    depth: Literal[18, 34, 50, 101, 152]
    width: Annotated[float, Field(ge=0.125, le=1.0, multiple_of=0.125)] = 1.0
    """Share of the published channel counts: 0.25 has 16 channels in its first stage, not 64."""

    frozen_stages: Annotated[int, Field(ge=-1, le=4)] = -1
    """Stages that do not learn: 1 freezes the stem and the first stage, -1 nothing."""

    norm_eval: bool = False
    """Keep the running statistics of every BatchNorm as they are; for pretrained backbones."""

    pretrained: Literal["imagenet"] | None = None
    """Weights to start from. ImageNet weights exist for the published width only."""


class Neck(Contract):
    """The feature pyramid (FPN) between backbone and head."""

    channels: Annotated[int, Field(ge=8, le=512, multiple_of=8)] = 256


class GflHead(Contract):
    """The head of Generalized Focal Loss (Li et al., 2020)."""

    convs: Annotated[int, Field(ge=1, le=8)] = 4
    channels: Annotated[int, Field(ge=32, le=512, multiple_of=32)] = 256
    """Channels of both towers; a multiple of the 32 groups of their GroupNorm."""

    reg_max: Annotated[int, Field(ge=4, le=32)] = 16
    """Largest distance to a box edge, in strides, that the distribution can express."""


class Detector(Contract):
    """A GFL detector: ResNet, FPN over strides 8 to 128, and the GFL head."""

    kind: Literal["gfl"] = "gfl"
    backbone: ResNet
    neck: Neck = Neck()
    head: GflHead = GflHead()
