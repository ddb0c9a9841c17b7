"""Whether the weights of a checkpoint are those of a detector, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from configs.spec.dataset import ClassNames
from workers.checkpoints.files import CLASS_LAYER_ENDINGS, StateDict

_WRAPPINGS = ("module.", "student.")
"""What DistributedDataParallel and distillers put before the names of a detector's own layers."""

_NOT_THE_DETECTORS = {
    "ema_": "averaged copies, kept by an EMA hook",
    "teacher_model.": "a distiller's teacher",
    "teacher.": "a distiller's teacher",
    "adapters.": "connectors of a distillation method",
    "distill_losses.": "connectors of a distillation method",
}
_CONSTANTS = ("num_batches_tracked", "integral.project", "relative_position_index", "attn_mask")
"""Buffers that follow from the architecture: a file need not have them, nor do we need them."""


@dataclass(frozen=True)
class UnusedLayer:
    """A layer of the file that is no part of the detector, and why; none: nobody knows."""

    name: str
    reason: str | None


@dataclass(frozen=True)
class WeightsComparison:
    """The layers of a file beside those of a detector."""

    weights: StateDict
    """What the detector is filled with; whole only if `fits`."""

    matched: tuple[str, ...]
    constants: tuple[str, ...]
    """Buffers that the file lacks and the architecture knows."""

    missing: tuple[str, ...]
    unused: tuple[UnusedLayer, ...]
    mismatched: tuple[str, ...]
    class_counts: tuple[int, int] | None
    """Rows of the classification layer in the file and in the detector, if they differ."""

    @property
    def unexplained(self) -> tuple[str, ...]:
        """Layers that the detector does not have and that are of no known other use."""
        return tuple(item.name for item in self.unused if item.reason is None)

    @property
    def fits(self) -> bool:
        """Whether every weight of the detector is there, in its shape."""
        return not self.missing and not self.mismatched


def extract_weights(checkpoint: Any) -> StateDict:
    """The layers of a checkpoint by name, without wrappings; `ValueError` if it holds none."""
    given = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(given, Mapping) or not given or not all(map(torch.is_tensor, given.values())):
        raise ValueError("it holds no weights by name")
    return {_unwrapped(name): tensor for name, tensor in given.items()}


def extract_classes(checkpoint: Mapping[str, Any]) -> ClassNames | None:
    """The classes that mmdet wrote beside the weights, if it did."""
    meta = checkpoint.get("meta")
    names = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if not isinstance(names, list | tuple) or not names:
        return None
    return tuple(str(name) for name in names)


def compare_weights(given: StateDict, wanted: StateDict) -> WeightsComparison:
    """What of `given` fills a detector whose state dict is `wanted`, and what is in the way."""
    shared = wanted.keys() & given.keys()
    fitting = {name for name in shared if given[name].shape == wanted[name].shape}
    absent = sorted(wanted.keys() - given.keys())
    constants = tuple(name for name in absent if name.endswith(_CONSTANTS))
    return WeightsComparison(
        weights={
            name: given[name] if name in fitting else wanted[name]
            for name in wanted
            if name in fitting or name in constants
        },
        matched=tuple(sorted(fitting)),
        constants=constants,
        missing=tuple(name for name in absent if name not in constants),
        unused=tuple(
            UnusedLayer(name, _why_left_out(name)) for name in sorted(given.keys() - wanted.keys())
        ),
        mismatched=tuple(
            f"{name} {tuple(given[name].shape)}, not {tuple(wanted[name].shape)}"
            for name in sorted(shared - fitting)
        ),
        class_counts=_class_counts(given, wanted),
    )


def _unwrapped(name: str) -> str:
    for wrapping in _WRAPPINGS:
        name = name.removeprefix(wrapping)
    return name


def _why_left_out(name: str) -> str | None:
    for start, why in _NOT_THE_DETECTORS.items():
        if name.startswith(start):
            return why
    return "a buffer that follows from the architecture" if name.endswith(_CONSTANTS) else None


def _class_counts(given: StateDict, wanted: StateDict) -> tuple[int, int] | None:
    for name in sorted(wanted.keys() & given.keys()):
        if name.endswith(CLASS_LAYER_ENDINGS) and len(given[name]) != len(wanted[name]):
            return len(given[name]), len(wanted[name])
    return None
