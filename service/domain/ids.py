"""Ids of runs, sweeps, autopilots, packs: a letter for the kind, and twelve random characters."""

import secrets
import string
from collections.abc import Collection, Iterator

_ALPHABET = string.digits + string.ascii_lowercase
_NUM_RANDOM_CHARACTERS = 12
"""About 62 bits."""


def new_run_id() -> str:
    return _new_id("r")


def new_sweep_id() -> str:
    return _new_id("s")


def new_autopilot_id() -> str:
    return _new_id("a")


def new_pack_id() -> str:
    return _new_id("p")


def is_sweep_id(text: str) -> bool:
    """Whether an id, or the beginning of one, is that of a sweep and not of a run."""
    return text.startswith("s")


def is_autopilot_id(text: str) -> bool:
    """Whether an id, or the beginning of one, is that of an autopilot and not of a run."""
    return text.startswith("a")


def split_ids(ids: Collection[str], *, size: int) -> Iterator[list[str]]:
    """The ids in their order, in lists of at most `size`: for one transaction or statement each."""
    id_list = list(ids)
    for first in range(0, len(id_list), size):
        yield id_list[first : first + size]


def _new_id(kind: str) -> str:
    # One number for all characters: a draw for each of them takes ten times as long.
    number = secrets.randbelow(len(_ALPHABET) ** _NUM_RANDOM_CHARACTERS)
    characters = []
    for _ in range(_NUM_RANDOM_CHARACTERS):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return kind + "".join(characters)
