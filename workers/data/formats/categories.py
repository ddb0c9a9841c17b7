"""Which categories of a COCO file are classes."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from workers.data.formats.identifiers import Identifier

_NO_PARENT = ("", "none")


@dataclass(frozen=True)
class Category:
    """A category of a COCO file."""

    id: Identifier
    name: str
    parent: str | None
    """The supercategory; None if there is none in the file."""


@dataclass(frozen=True)
class Classes:
    """The categories that are classes, and why others are not."""

    names: dict[Identifier, str]
    notes: tuple[str, ...]
    conflicts: tuple[tuple[Identifier, str], ...]
    """Ids of categories that cannot be told from others, with the reason."""


def choose_classes(categories: Sequence[Category], used_ids: Collection[Identifier]) -> Classes:
    """Leave out Roboflow's root, and categories without boxes that have the name of another.

    `used_ids` are the ids of categories with boxes.
    """
    names: dict[Identifier, str] = {}
    conflicts: list[tuple[Identifier, str]] = []
    notes: list[str] = []
    ambiguous: set[Identifier] = set()
    unique_names: set[str] = set()
    root = _find_root(categories, used_ids)
    if root is not None:
        notes.append(
            f"Category {root.id} {root.name!r} is the parent of all others and has no boxes, as "
            "Roboflow writes it; it is no class. --classes can name it."
        )
    for category in _order(categories, used_ids):
        if category is root:
            continue
        if category.id in names:
            other = names[category.id]
            conflicts.append((category.id, f"the id is that of {other!r} and {category.name!r}"))
            ambiguous.add(category.id)
        elif category.name not in unique_names:
            names[category.id] = category.name
            unique_names.add(category.name)
        elif category.id in used_ids:
            message = f"another category has the name {category.name!r}, too"
            conflicts.append((category.id, message))
        else:
            notes.append(
                f"Category {category.id} has no boxes, and {category.name!r} is the name of "
                "another category; it is left out."
            )
    names = {key: name for key, name in names.items() if key not in ambiguous}
    return Classes(names, tuple(notes), tuple(conflicts))


def sort_names(names: dict[Identifier, str]) -> tuple[str, ...]:
    """Class names in the order of their ids: numbers by value, then texts as they are listed."""
    numbers = sorted((key, name) for key, name in names.items() if isinstance(key, int))
    texts = [name for key, name in names.items() if isinstance(key, str)]
    return (*(name for _, name in numbers), *texts)


def _find_root(categories: Sequence[Category], used_ids: Collection[Identifier]) -> Category | None:
    """The category without boxes and parent that is the parent of all others."""
    num_children = Counter(category.parent for category in categories)
    for category in categories:
        is_top = category.parent is not None and category.parent.casefold() in _NO_PARENT
        is_parent_of_all = 0 < num_children[category.name] == len(categories) - 1
        if is_top and is_parent_of_all and category.id not in used_ids:
            return category
    return None


def _order(categories: Sequence[Category], used_ids: Collection[Identifier]) -> Iterator[Category]:
    """Those with boxes first, so that of two with one name the one without is left out."""
    yield from (category for category in categories if category.id in used_ids)
    yield from (category for category in categories if category.id not in used_ids)
