"""Schedule of training: epochs, optimizer, learning rate."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.spec.base import OMIT_IF_NONE, Contract, Fraction

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
    """Multiplies the learning rate by `gamma` after each milestone epoch."""

    kind: Literal["step"] = "step"
    milestones: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    gamma: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1


class CosinePolicy(Contract):
    """Decays the learning rate along half a cosine, iteration by iteration."""

    kind: Literal["cosine"] = "cosine"
    min_lr_ratio: Fraction = 0.01
    """Final learning rate, as a fraction of the initial one."""


class Warmup(Contract):
    """Linear warmup of the learning rate, starting at `ratio` of it."""

    iterations: Annotated[int, Field(ge=1)] = 500
    ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 0.001


class Ema(Contract):
    """An exponential moving average of the student's weights.

    The averaged weights are the student that is evaluated, kept and exported.
    """

    decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9998
    """Weight of the average against those of one step, after the warmup. It spans about
    1 / (1 - decay) steps: a run should have several times as many."""

    warmup_steps: Annotated[int, Field(ge=1)] = 2000
    """The decay at step t is `decay` * (1 - exp(-t / `warmup_steps`)), so that the average forgets
    the initial weights."""


class Schedule(Contract):
    """Number of epochs, optimizer and learning-rate policy."""

    epochs: Annotated[int, Field(ge=1, le=1000)]
    optimizer: Annotated[Sgd | AdamW, Field(discriminator="kind")] = Sgd()
    policy: Annotated[StepPolicy | CosinePolicy, Field(discriminator="kind")] = CosinePolicy()
    warmup: Warmup | None = None
    max_grad_norm: Annotated[float, Field(gt=0.0)] | None = None
    """Clip gradients to this norm. None for no clipping."""

    lr_for_batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Batch size that the optimizer's `lr` refers to; it is scaled linearly to the run's batch size
    (Goyal et al., 2017). None for no scaling."""

    ema: Annotated[Ema | None, OMIT_IF_NONE] = None
    """Average the student's weights over the steps. None for the weights of the last step."""

    @model_validator(mode="after")
    def _check_milestones(self) -> Self:
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
