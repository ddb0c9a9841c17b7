"""Known teachers: those that presets name, their architecture and the source of their weights."""

from collections.abc import Iterable
from importlib.resources import files
from typing import Annotated, Self

import yaml
from pydantic import Field, TypeAdapter, model_validator

from configs.catalog import spec_from_preset
from configs.spec.base import Contract, Fraction, Name
from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector
from configs.suggestions import ask_did_you_mean

Sha256Prefix = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
"""A SHA-256 digest in hexadecimal, or at least its first eight digits."""


class TeacherCard(Contract):
    """An entry of `configs/teachers/known.yaml`."""

    summary: str
    preset: str
    """The preset that trains this detector as its student, and so has its architecture."""

    classes: str | None = None
    """Name of a list in `configs/classes`. None for teachers without a source."""

    source: Annotated[str, Field(pattern=r"^(https|s3)://")] | None = None
    sha256: Sha256Prefix | None = None
    shipped: bool = False
    """Whether weights and card are part of Tandem, in `configs/teachers`."""

    published_map: Fraction | None = None

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source is not None and (self.sha256 is None or self.classes is None):
            raise ValueError("a source needs sha256, to verify the file, and classes")
        if self.source is not None and self.shipped:
            raise ValueError("give either shipped or a source, not both")
        return self

    @property
    def detector(self) -> Detector:
        """The architecture: the student of the preset."""
        return spec_from_preset(self.preset).student.architecture

    @property
    def can_be_fetched(self) -> bool:
        """Whether `tandem teachers fetch` can download or copy the weights."""
        return self.shipped or self.source is not None


_Cards = TypeAdapter(dict[Name, TeacherCard])


def known_teachers() -> dict[str, TeacherCard]:
    """All known teachers by name."""
    text = files("configs").joinpath("teachers", "known.yaml").read_text(encoding="utf-8")
    return _Cards.validate_python(yaml.safe_load(text))


def how_to_get_teacher(
    name: str, *, registered: Iterable[str] = (), run_id: str | None = None
) -> str:
    """A sentence that tells how to get the teacher `name`, or which name was meant.

    `run_id`: a run that trains this teacher, or has trained it.
    """
    cards = known_teachers()
    card = cards.get(name)
    if card is None:
        if question := ask_did_you_mean(name, sorted({*registered, *cards})):
            return question.capitalize()
        return (
            "`tandem teachers list` shows the registered teachers, `tandem teachers known` those "
            "that can be fetched or trained."
        )
    if card.can_be_fetched:
        return f"Get it with `tandem teachers fetch {name}`."
    if run_id is not None:
        return f"Run {run_id} trains it: name that run instead, with 'teacher={{run: {run_id}}}'."
    return (
        f"Train it with `tandem run {card.preset}`, and name that run instead: "
        "'teacher={run: ID}'; a student waits for its teacher."
    )


def class_list_names() -> tuple[str, ...]:
    """Names of the class lists in `configs/classes`."""
    entries = files("configs").joinpath("classes").iterdir()
    return tuple(sorted(entry.name.removesuffix(".txt") for entry in entries))


def load_class_list(name: str) -> ClassNames:
    """The class names of a list in `configs/classes`, in the order of the head's outputs."""
    text = files("configs").joinpath("classes", f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
