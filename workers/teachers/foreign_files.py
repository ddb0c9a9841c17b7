"""Reads checkpoints of other tools without executing anything in them.

Many contain objects beside the weights: mmengine's log, paths, settings of Lightning. Those of
known packages are read as `InertObject`, which keeps nothing; their own classes are not imported.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from workers.checkpoints.files import load_checkpoint, numpy_globals

_HARMLESS_PACKAGES = frozenset(
    {
        *("mmengine", "mmcv", "mmdet", "mmrazor", "mmcls", "mmpretrain", "mmyolo", "addict"),
        *("lightning", "lightning_fabric", "pytorch_lightning", "lightning_utilities"),
        *("omegaconf", "hydra", "detectron2", "fvcore", "yacs", "timm", "ultralytics", "models"),
        *("numpy", "pathlib", "datetime", "argparse", "collections", "typing", "enum", "uuid"),
        *("torch", "torchmetrics", "types", "copyreg", "dataclasses", "functools", "operator"),
    }
)
_HARMLESS_BUILTINS = frozenset(
    {"getattr", "object", "slice", "range", "complex", "frozenset", "bytearray", "type"}
)
_MAX_LISTED = 3


class ForeignObjects(ValueError):
    """The file contains objects of unknown classes; the message lists them."""


class InertObject:
    """Stands for an object, a class or a function; takes what pickle gives it and does nothing."""

    def __new__(cls, *_arguments: object, **_options: object) -> "InertObject":
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_options: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)

    def append(self, item: object) -> None:
        """Drop an item of a list."""

    def extend(self, items: object) -> None:
        """Drop items of a list."""


def load_foreign_checkpoint(path: Path) -> Any:
    """The content of a checkpoint on the CPU.

    Raises `ForeignObjects` for classes that might be anything, and what torch raises for files
    that are damaged or of another format.
    """
    names = _list_unknown_globals(path)
    refused = sorted(name for name in names if not _is_harmless(name))
    if refused:
        more = f" and {len(refused) - _MAX_LISTED} more" if len(refused) > _MAX_LISTED else ""
        raise ForeignObjects(f"it contains {', '.join(refused[:_MAX_LISTED])}{more}")
    placeholders: list[Any] = [(_make_inert_class(), name) for name in names]
    with torch.serialization.safe_globals(placeholders):
        return load_checkpoint(path)


def _list_unknown_globals(path: Path) -> list[str]:
    """Classes and functions that torch does not load; none of a file in torch's old format."""
    try:
        with torch.serialization.safe_globals(numpy_globals()):
            return get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError, EOFError, pickle.UnpicklingError):
        return []  # loading says what is wrong


def _is_harmless(name: str) -> bool:
    package, _, member = name.partition(".")
    return package in _HARMLESS_PACKAGES or (
        package in {"builtins", "__builtin__"} and member in _HARMLESS_BUILTINS
    )


def _make_inert_class() -> type[InertObject]:
    """A class for one name: torch compares the classes that it may create."""
    return type("InertObject", (InertObject,), {})
