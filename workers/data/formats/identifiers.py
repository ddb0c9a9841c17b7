"""Ids of COCO files: numbers, numbers written as text or as fractions, and texts."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

Identifier = int | str

_INTEGER = re.compile(r"[+-]?\d{1,4000}(\.0*)?")


def parse_identifier(value: Any) -> Identifier:
    """Take an id as it is written; raises `ValueError` for what is neither number nor text."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("an id is a whole number or a text")


class IdSpace:
    """Tells which ids mean the same: 7, 7.0, "7" and "7.0", unless "7" and "07" are two ids."""

    def __init__(self, values: Iterable[object]) -> None:
        spellings: defaultdict[int, set[str]] = defaultdict(set)
        for value in values:
            if isinstance(value, str) and value.strip().isdecimal() and len(value) < 4000:
                spellings[int(value)].add(value.strip())
        self._is_textual = any(len(spelling) > 1 for spelling in spellings.values())

    def normalize(self, value: Identifier) -> Identifier:
        """The same value for every way to write an id."""
        if self._is_textual:
            return str(value)
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            return int(value.split(".")[0])
        return value

    def read(self, value: object) -> Identifier | None:
        """The normalized id; None if the value is no id."""
        try:
            return self.normalize(parse_identifier(value))
        except ValueError:
            return None
