"""Compares the weights of a checkpoint with those of a detector, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from configs.spec.dataset import ClassNames
from workers.checkpoints.files import CLASS_LAYER_ENDINGS, StateDict

_WRAPPER_PREFIXES = ("module.", "student.")
"""Prefixes that DistributedDataParallel and distillers add to the names of layers."""

_UNUSED_PREFIXES = {
    "ema_": "averaged copies of an EMA hook",
    "teacher_model.": "a distiller's teacher",
    "teacher.": "a distiller's teacher",
    "adapters.": "connectors of a distillation method",
    "distill_losses.": "connectors of a distillation method",
}
_CONSTANT_BUFFERS = (
    "num_batches_tracked",
    "integral.project",
    "relative_position_index",
    "attn_mask",
)
"""Suffixes of buffers that follow from the architecture, and may be missing in the file."""


@dataclass(frozen=True)
class UnusedLayer:
    """A layer of the file that the detector does not have."""

    name: str
    reason: str | None
    """Why the detector does not need it; None if that is unknown."""


@dataclass(frozen=True)
class WeightsComparison:
    """How the layers of a file match those of a detector."""

    weights: StateDict
    """Weights for the detector; complete only if `fits`."""

    matched: tuple[str, ...]
    constants: tuple[str, ...]
    """Buffers that are missing in the file, but follow from the architecture."""

    missing: tuple[str, ...]
    unused: tuple[UnusedLayer, ...]
    mismatched: tuple[str, ...]
    class_counts: tuple[int, int] | None
    """Rows of the classification layer in the file and in the detector; None if they are equal."""

    @property
    def unexplained(self) -> tuple[str, ...]:
        """Layers that the detector does not have and whose purpose is unknown."""
        return tuple(item.name for item in self.unused if item.reason is None)

    @property
    def fits(self) -> bool:
        """Whether the file has every weight of the detector, in the right shape."""
        return not self.missing and not self.mismatched


def extract_weights(checkpoint: Any) -> StateDict:
    """The weights of a checkpoint without wrapper prefixes; `ValueError` if it contains none."""
    state_dict = (
        checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    )
    if (
        not isinstance(state_dict, Mapping)
        or not state_dict
        or not all(map(torch.is_tensor, state_dict.values()))
    ):
        raise ValueError("it contains no weights by name")
    return {_strip_prefixes(name): tensor for name, tensor in state_dict.items()}


def extract_classes(checkpoint: Mapping[str, Any]) -> ClassNames | None:
    """The class names that mmdet stored in the checkpoint; None if there are none."""
    meta = checkpoint.get("meta")
    names = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if not isinstance(names, list | tuple) or not names:
        return None
    return tuple(str(name) for name in names)


def compare_weights(loaded: StateDict, expected: StateDict) -> WeightsComparison:
    """Match the weights of a file with a detector's state dict, by name and shape."""
    common = expected.keys() & loaded.keys()
    matched = {name for name in common if loaded[name].shape == expected[name].shape}
    absent = sorted(expected.keys() - loaded.keys())
    constants = tuple(name for name in absent if name.endswith(_CONSTANT_BUFFERS))
    return WeightsComparison(
        weights={
            name: loaded[name] if name in matched else expected[name]
            for name in expected
            if name in matched or name in constants
        },
        matched=tuple(sorted(matched)),
        constants=constants,
        missing=tuple(name for name in absent if name not in constants),
        unused=tuple(
            UnusedLayer(name, _explain_unused(name))
            for name in sorted(loaded.keys() - expected.keys())
        ),
        mismatched=tuple(
            f"{name} {tuple(loaded[name].shape)}, not {tuple(expected[name].shape)}"
            for name in sorted(common - matched)
        ),
        class_counts=_compare_class_counts(loaded, expected),
    )


def _strip_prefixes(name: str) -> str:
    for prefix in _WRAPPER_PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _explain_unused(name: str) -> str | None:
    for prefix, reason in _UNUSED_PREFIXES.items():
        if name.startswith(prefix):
            return reason
    return (
        "a buffer that follows from the architecture" if name.endswith(_CONSTANT_BUFFERS) else None
    )


def _compare_class_counts(loaded: StateDict, expected: StateDict) -> tuple[int, int] | None:
    for name in sorted(expected.keys() & loaded.keys()):
        if name.endswith(CLASS_LAYER_ENDINGS) and len(loaded[name]) != len(expected[name]):
            return len(loaded[name]), len(expected[name])
    return None
