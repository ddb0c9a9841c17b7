"""Writes checkpoints atomically, and reads them without executing code in them."""

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor, nn

from configs.atomic_files import open_atomically
from workers.errors import TeacherMismatch

_YOLOX_LEVELS = 3
_CLASS_LAYERS = (
    *("gfl_cls", "atss_cls", "retina_cls", "conv_cls", "vfnet_cls", "tood_cls"),
    *(f"multi_level_conv_cls.{level}" for level in range(_YOLOX_LEVELS)),
)
CLASS_LAYER_ENDINGS = tuple(
    f"{layer}.{kind}" for layer in _CLASS_LAYERS for kind in ("weight", "bias")
)
"""Parameters with one output per class, times anchors where a head has several per position."""

ADAPTERS = "adapters."
"""Prefix of the parameters of feature adapters, which are no part of the detector."""

_MAX_LISTED_KEYS = 5
_CHUNK_BYTES = 1 << 20

StateDict = dict[str, Tensor]


def compute_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True)
class FileDigest:
    """Size and hash of a file that was written."""

    num_bytes: int
    sha256: str


class HashingWriter:
    """A file that counts and hashes what is written to it.

    Implements what `torch.save` needs; it writes sequentially.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._num_bytes = 0

    def write(self, content: bytes | memoryview) -> int:
        self._digest.update(content)
        self._num_bytes += memoryview(content).nbytes
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()

    @property
    def file_digest(self) -> FileDigest:
        """Size and hash of what was written so far."""
        return FileDigest(self._num_bytes, self._digest.hexdigest())


def save_atomically(
    checkpoint: dict[str, Any],
    path: Path,
    *,
    before_replace: Callable[[], None] = lambda: None,
) -> FileDigest:
    """Replace `path`, as `open_atomically` does, and create its folder if it is missing.

    The checkpoint is hashed while it is written, so that it need not be read again for that.
    `before_replace` is called once it is written; if it raises, `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomically(path) as file:
        hashing = HashingWriter(file)
        torch.save(checkpoint, cast("BinaryIO", hashing))
        before_replace()
    return hashing.file_digest


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors and plain values, on the CPU; raises if it contains code.

    Numpy scalars and arrays, which old mmdet checkpoints have in `meta`, are allowed.
    """
    with torch.serialization.safe_globals(numpy_globals()):
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


def load_weights(path: Path) -> StateDict:
    """The weights of an mmdet checkpoint or of a bare state dict, without DDP's prefix `module.`.

    Raises `ValueError` if the file contains something else.
    """
    loaded: Any = load_checkpoint(path)
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise ValueError(f"{path} contains no state dict.")
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()}


def load_teacher_weights(model: nn.Module, path: Path, *, sha256: str | None) -> str:
    """Load a teacher's checkpoint into `model`; returns the file's SHA-256.

    Raises `TeacherMismatch` if the file is missing or unreadable, has another hash than `sha256`,
    or if a weight of the model or of the file has no counterpart of the same shape.
    """
    if not path.is_file():
        raise TeacherMismatch(f"There is no teacher checkpoint at {path}.")
    actual_sha256 = compute_sha256(path)
    if sha256 is not None and actual_sha256 != sha256:
        raise TeacherMismatch(
            f"The teacher checkpoint {path} is not the registered one: its SHA-256 is "
            f"{actual_sha256}, expected {sha256}. If the change is intended, register it again."
        )
    weights = _load_teacher_state_dict(path)
    problems = _compare_state_dicts(weights, expected=model.state_dict())
    if problems:
        raise TeacherMismatch(
            f"The teacher checkpoint {path} does not fit the architecture it is registered with: "
            + "; ".join(problems)
        )
    model.load_state_dict(weights, strict=True)
    return actual_sha256


def compute_weights_sha256(weights: StateDict) -> str:
    """SHA-256 of the names and bytes of all weights: equal for equal bits."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _load_teacher_state_dict(path: Path) -> StateDict:
    try:
        return load_weights(path)
    # From torch: code or another format, an empty file, a truncated archive.
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        raise TeacherMismatch(
            f"The teacher checkpoint {path} is damaged or contains more than weights and plain "
            "values; fetch it again, or save its state dict alone."
        ) from error


def _compare_state_dicts(actual: StateDict, *, expected: StateDict) -> list[str]:
    problems = _compare_num_classes(actual, expected=expected)
    missing = sorted(expected.keys() - actual.keys())
    unexpected = sorted(actual.keys() - expected.keys())
    mismatched = [
        f"{name} ({tuple(actual[name].shape)}, expected {tuple(expected[name].shape)})"
        for name in sorted(expected.keys() & actual.keys())
        if actual[name].shape != expected[name].shape
    ]
    for label, names in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", mismatched),
    ):
        if names:
            problems.append(f"{label}: {_format_names(names)}")
    return problems


def _compare_num_classes(actual: StateDict, *, expected: StateDict) -> list[str]:
    for name in expected.keys() & actual.keys():
        if not name.endswith(CLASS_LAYER_ENDINGS):
            continue
        num_actual, num_expected = actual[name].shape[0], expected[name].shape[0]
        if num_actual != num_expected:
            return [f"it has {num_actual} classes, {num_expected} are registered"]
    return []


def _format_names(names: list[str]) -> str:
    num_more = len(names) - _MAX_LISTED_KEYS
    listed = ", ".join(names[:_MAX_LISTED_KEYS])
    return f"{listed} and {num_more} more" if num_more > 0 else listed


def numpy_globals() -> list[Any]:
    """What unpickling numpy scalars and arrays needs, under its new and its old names."""
    type_codes = (*np.typecodes["AllInteger"], *np.typecodes["Float"], "?", "S", "U")
    dtypes = {type(np.dtype(code)) for code in type_codes}
    reconstruct = np.ndarray(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    old_names = [
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        (scalar, "numpy.core.multiarray.scalar"),
    ]
    return [reconstruct, scalar, *old_names, np.ndarray, np.dtype, *dtypes]
