"""Published tables: what was reported, where, and the spec that repeats each row."""

from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, JsonValue

from configs.catalog import spec_from_preset
from configs.spec.base import Contract, Fraction, Name
from configs.spec.run import RunSpec
from configs.suggestions import ask_did_you_mean, list_names

_FOLDER = Path(__file__).parent

Url = Annotated[str, Field(pattern=r"^https://")]


class PublishedSource(Contract):
    """Where the numbers of a table stand."""

    paper: str
    table: str
    url: Url


class PublishedCode(Contract):
    """The code that produced the numbers. Tandem contains none of it."""

    url: Url
    license: str | None = None
    """None if it was not checked."""


class PublishedRow(Contract):
    """A student alone and distilled; mAP on COCO's validation images, from 0 to 1."""

    teacher: str
    student: str
    schedule: str
    """As papers call it: 1x is 12 epochs."""

    baseline_map: Fraction
    """Of the student without a teacher."""

    distilled_map: Fraction
    preset: str
    changes: dict[str, JsonValue] = Field(default_factory=dict)
    """New values by dotted field of the preset's spec."""

    differs: str | None = None
    """A known difference to the published setting. None if there is none."""

    @property
    def gain(self) -> float:
        """Distilled minus alone, from -1 to 1."""
        return self.distilled_map - self.baseline_map

    def build_spec(self) -> RunSpec:
        """The spec of the distilled run at full scale. Raises `UnknownPreset` or `SpecError`."""
        return spec_from_preset(self.preset, self.changes)


class PublishedTable(Contract):
    """A file of `configs/tables`."""

    summary: str
    source: PublishedSource
    code: PublishedCode
    rows: Annotated[dict[Name, PublishedRow], Field(min_length=1)]


class UnknownTable(LookupError):
    """There is no published table, or no row of it, with this name."""

    def __init__(self, name: str, *, noun: str, names: tuple[str, ...]) -> None:
        question = ask_did_you_mean(name, names)
        hint = f"; {question}" if question else f". Known: {list_names(names)}."
        super().__init__(f"There is no {noun} {name!r}{hint}")


def table_names() -> tuple[str, ...]:
    """All published tables, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@cache
def load_published_table(name: str) -> PublishedTable:
    """Load a table. Raises `UnknownTable`."""
    if name not in table_names():
        raise UnknownTable(name, noun="table", names=table_names())
    text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return PublishedTable.model_validate(yaml.safe_load(text))


def select_rows(table: PublishedTable, names: tuple[str, ...]) -> dict[str, PublishedRow]:
    """The rows of these names, or all without any. Raises `UnknownTable` for another name."""
    for name in names:
        if name not in table.rows:
            raise UnknownTable(name, noun="row", names=tuple(table.rows))
    return {name: table.rows[name] for name in names or table.rows}
