"""Checkpoints: read without running what is in them, written whole or not at all."""

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from workers.errors import TeacherMismatch

_CLASS_LAYERS = ("gfl_cls", "atss_cls", "retina_cls", "conv_cls", "vfnet_cls")
CLASS_LAYER_ENDINGS = tuple(
    f"{layer}.{kind}" for layer in _CLASS_LAYERS for kind in ("weight", "bias")
)
"""Layers with an output for every class, and for every anchor where a head has several."""

_SHOWN_KEYS = 5
_BLOCK_BYTES = 1 << 20

StateDict = dict[str, Tensor]


def compute_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class FileDigest:
    """What was written into a file."""

    num_bytes: int
    sha256: str
    """Of the content, in hexadecimal."""


class HashingWriter:
    """Passes bytes on to a file, and knows how many they were and what their SHA-256 is.

    As much of a file as `torch.save` needs; it writes from the first byte to the last.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._num_bytes = 0

    def write(self, content: bytes | memoryview) -> int:
        """Append to the file; the number of bytes."""
        self._digest.update(content)
        self._num_bytes += memoryview(content).nbytes
        return self._file.write(content)

    def flush(self) -> None:
        """Pass on what the file holds back."""
        self._file.flush()

    @property
    def file_digest(self) -> FileDigest:
        """Of what was written so far."""
        return FileDigest(self._num_bytes, self._digest.hexdigest())


def save_atomically(checkpoint: dict[str, Any], path: Path) -> FileDigest:
    """Write `checkpoint` so that at every moment `path` is the old file or the whole new one.

    It is hashed as it is written, so nobody has to read it again to know what it should hold.
    """
    return _write_atomically(path, lambda file: torch.save(checkpoint, file))


def write_atomically(path: Path, content: bytes) -> FileDigest:
    """Write `content` so that at every moment `path` is the old file or the whole new one."""
    return _write_atomically(path, lambda file: file.write(content))


def _write_atomically(path: Path, write: Callable[[Any], object]) -> FileDigest:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            hashing = HashingWriter(file)
            write(hashing)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        # On a full disk, what is left of a failed save would make the next one fail too.
        unfinished.unlink(missing_ok=True)
        raise
    return hashing.file_digest


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors and plain values on the CPU; code in it is refused, never run.

    Numpy scalars and arrays, which old mmdet checkpoints hold in `meta`, are allowed.
    """
    with torch.serialization.safe_globals(_numpy_globals()):
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


def load_weights(path: Path) -> StateDict:
    """The weights of an mmdet checkpoint or of a bare state dict; DDP's `module.` is taken off.

    Raises `ValueError` if the file holds something else.
    """
    loaded: Any = load_checkpoint(path)
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise ValueError(f"{path} holds no weights by name.")
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()}


def load_teacher_weights(model: nn.Module, path: Path, *, sha256: str | None) -> str:
    """Fill `model` from a teacher's checkpoint and return the file's SHA-256.

    Raises `TeacherMismatch` if the file is missing, unreadable or another one than `sha256` says,
    or if one weight of the model or of the file has no counterpart of the same shape.
    """
    if not path.is_file():
        raise TeacherMismatch(f"There is no teacher checkpoint at {path}.")
    found = compute_sha256(path)
    if sha256 is not None and found != sha256:
        raise TeacherMismatch(
            f"The teacher checkpoint {path} is not the registered one: its SHA-256 is {found}, "
            f"expected {sha256}. Register it again if the change is meant."
        )
    weights = _readable_weights(path)
    problems = _differences(model.state_dict(), weights)
    if problems:
        raise TeacherMismatch(
            f"The teacher checkpoint {path} does not fit the architecture it is registered with: "
            + "; ".join(problems)
        )
    model.load_state_dict(weights, strict=True)
    return found


def _readable_weights(path: Path) -> StateDict:
    try:
        return load_weights(path)
    # What torch raises: code or another format, a file without content, a cut archive.
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        raise TeacherMismatch(
            f"The teacher checkpoint {path} is damaged or holds more than weights and plain "
            "values; fetch it again, or save it anew with its state dict alone."
        ) from error


def _differences(wanted: StateDict, given: StateDict) -> list[str]:
    problems = _class_count_difference(wanted, given)
    missing = sorted(wanted.keys() - given.keys())
    unexpected = sorted(given.keys() - wanted.keys())
    misshapen = [
        f"{name} ({tuple(given[name].shape)}, expected {tuple(wanted[name].shape)})"
        for name in sorted(wanted.keys() & given.keys())
        if given[name].shape != wanted[name].shape
    ]
    for what, names in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", misshapen),
    ):
        if names:
            problems.append(f"{what}: {_some(names)}")
    return problems


def _class_count_difference(wanted: StateDict, given: StateDict) -> list[str]:
    for name in wanted.keys() & given.keys():
        ours, theirs = wanted[name].shape, given[name].shape
        if name.endswith(CLASS_LAYER_ENDINGS) and ours[0] != theirs[0]:
            return [f"it knows {theirs[0]} classes, {ours[0]} are registered"]
    return []


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN_KEYS
    return ", ".join(names[:_SHOWN_KEYS]) + (f" and {rest} more" if rest > 0 else "")


def _numpy_globals() -> list[Any]:
    plain_codes = (*np.typecodes["AllInteger"], *np.typecodes["Float"], "?", "S", "U")
    dtypes = {type(np.dtype(code)) for code in plain_codes}
    reconstruct = np.ndarray(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    old_names = [
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        (scalar, "numpy.core.multiarray.scalar"),
    ]
    return [reconstruct, scalar, *old_names, np.ndarray, np.dtype, *dtypes]
