"""Finds teachers that presets name: their architecture, and where their weights come from."""

from importlib.resources import files
from typing import Annotated, Self

import yaml
from pydantic import Field, TypeAdapter, model_validator

from configs.catalog import spec_from_preset
from configs.spec.base import Contract, Fraction, Name
from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector

Sha256Prefix = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
"""A SHA-256 digest in hexadecimal, or its first digits; at least eight."""


class TeacherCard(Contract):
    """What is known about a teacher before it is here; see `configs/teachers/known.yaml`."""

    summary: str
    preset: str
    """The preset whose student it is: its architecture, and how to train it anew."""

    classes: str | None = None
    """A list of names in `configs/classes`."""

    source: Annotated[str, Field(pattern=r"^(https|s3)://")] | None = None
    sha256: Sha256Prefix | None = None
    shipped: bool = False
    """Weights and card come with Tandem, in `configs/teachers`."""

    published_map: Fraction | None = None

    @model_validator(mode="after")
    def _a_file_from_elsewhere_can_be_checked(self) -> Self:
        if self.source is not None and (self.sha256 is None or self.classes is None):
            raise ValueError("a source needs a sha256 to check the file by, and its classes")
        if self.source is not None and self.shipped:
            raise ValueError("it is either shipped or at a source")
        return self

    @property
    def detector(self) -> Detector:
        """Its architecture."""
        return spec_from_preset(self.preset).student

    @property
    def can_be_fetched(self) -> bool:
        """Whether `tandem teachers fetch` gets it."""
        return self.shipped or self.source is not None


_Cards = TypeAdapter(dict[Name, TeacherCard])


def known_teachers() -> dict[str, TeacherCard]:
    """Every known teacher by name."""
    text = files("configs").joinpath("teachers", "known.yaml").read_text(encoding="utf-8")
    return _Cards.validate_python(yaml.safe_load(text))


def how_to_get_teacher(name: str) -> str:
    """What a person can do who misses the teacher `name`, as a sentence."""
    card = known_teachers().get(name)
    if card is None:
        return (
            "`tandem teachers list` shows those there are, `tandem teachers known` those that can "
            "be had."
        )
    if card.can_be_fetched:
        return f"Get it with `tandem teachers fetch {name}`."
    return (
        f"Train it with `tandem run {card.preset}`; a student may name that run instead, as in "
        "teacher={run: ID}, and waits for it."
    )


def class_list_names() -> tuple[str, ...]:
    """The names of the lists in `configs/classes`."""
    entries = files("configs").joinpath("classes").iterdir()
    return tuple(sorted(entry.name.removesuffix(".txt") for entry in entries))


def load_class_list(name: str) -> ClassNames:
    """The class names in `configs/classes`, in the order of the outputs."""
    text = files("configs").joinpath("classes", f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
