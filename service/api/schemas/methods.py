"""Responses about distillation methods."""

from typing import Literal

from configs.protocol.methods import MethodCard
from configs.spec.base import Contract


class OwnMethodView(Contract):
    """A method of Tandem, with a typed spec."""

    name: str
    title: str
    needs_labels: bool
    """Whether it is refused with images of `data.unlabelled`."""


class MethodsView(Contract):
    """The methods that a run may use."""

    own: list[OwnMethodView]
    installed: list[MethodCard]
    """Those of other packages, as the workers last answered."""

    problems: list[str]
    """Why other methods that the workers have cannot be used."""

    answer: Literal["received", "pending", "none"]
    """`pending`: a job is asking the workers. `none`: nobody has asked them, or the job failed."""

    failure: str | None
    """Why the workers did not answer. None if they did, or nobody has asked them."""
