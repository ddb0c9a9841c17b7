"""How long and how fast to learn: epochs, optimizer, learning-rate policy."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.spec.base import Contract, Fraction

LearningRate = Annotated[float, Field(gt=0.0, le=10.0)]
WeightDecay = Annotated[float, Field(ge=0.0, le=1.0)]


class Sgd(Contract):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: LearningRate = 0.01
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    weight_decay: WeightDecay = 1e-4


class AdamW(Contract):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    lr: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.05


class StepPolicy(Contract):
    """The learning rate is multiplied by `gamma` after each of these epochs."""

    kind: Literal["step"] = "step"
    milestones: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    gamma: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1


class CosinePolicy(Contract):
    """The learning rate falls along half a cosine, iteration by iteration."""

    kind: Literal["cosine"] = "cosine"
    min_lr_ratio: Fraction = 0.01
    """What is left of the learning rate at the end."""


class Warmup(Contract):
    """The learning rate rises linearly from `ratio` of itself."""

    iterations: Annotated[int, Field(ge=1)] = 500
    ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 0.001


class Schedule(Contract):
    """Optimizer and learning rate over the epochs."""

    epochs: Annotated[int, Field(ge=1, le=1000)]
    optimizer: Annotated[Sgd | AdamW, Field(discriminator="kind")] = Sgd()
    policy: Annotated[StepPolicy | CosinePolicy, Field(discriminator="kind")] = CosinePolicy()
    warmup: Warmup | None = None
    max_grad_norm: Annotated[float, Field(gt=0.0)] | None = None
    """Gradients are scaled down to this norm; none leaves them alone."""

    lr_for_batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Batch size that the optimizer's `lr` is meant for: it is scaled linearly to the run's own
    (Goyal et al., 2017). None: `lr` is taken as it is."""

    @model_validator(mode="after")
    def _milestones_are_reached(self) -> Self:
        if not isinstance(self.policy, StepPolicy):
            return self
        milestones = self.policy.milestones
        if list(milestones) != sorted(set(milestones)):
            raise ValueError(f"policy.milestones must rise, got {list(milestones)}")
        if milestones[-1] >= self.epochs:
            raise ValueError(
                f"policy.milestones: the learning rate would fall after epoch {milestones[-1]}, "
                f"but training ends with epoch {self.epochs}"
            )
        return self
