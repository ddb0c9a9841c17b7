"""Compares the weights of a checkpoint with those of a detector, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from configs.spec.dataset import ClassNames
from workers.checkpoints.files import CLASS_LAYER_ENDINGS, StateDict

_NESTS = ("state_dict", "model_state_dict", "model", "weights", "net", "module", "params")
"""Names under which tools store the weights, the most common one first."""

_COPIES = frozenset({"teacher", "teacher_model", "distiller", "ema", "ema_model", "module_ema"})
"""Parts of names of models beside the trained one."""

_UNUSED_PREFIXES = {
    "ema_": "averaged copies of an EMA hook",
    "teacher_model.": "a distiller's teacher",
    "teacher.": "a distiller's teacher",
    "distiller.": "a distiller's teacher and connectors",
    "student.": "a distiller's student",
    "architecture.": "a distiller's student",
    "data_preprocessor.": "mean and deviation of the images",
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


_PROBED_LAYERS = 8
"""How many layers of a detector are looked for under any prefix."""


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
    """The weights of a checkpoint, with its names; `ValueError` if it contains none."""
    nested = checkpoint if isinstance(checkpoint, Mapping) else {}
    for content in (*(nested.get(name) for name in _NESTS), nested):
        if isinstance(content, Mapping) and content and all(map(torch.is_tensor, content.values())):
            return {str(name): tensor for name, tensor in content.items()}
    raise ValueError("it contains no weights by name")


def strip_wrapper(weights: StateDict, expected: StateDict) -> StateDict:
    """Remove the prefix under which most weights of a detector are found.

    DistributedDataParallel, Lightning and distillers add prefixes, and distillers and EMA hooks
    store several models. Of equal ones the trained model is taken, not a teacher or an average.
    """
    prefixes = {
        name[: -len(ending)]
        for ending in sorted(expected)[:_PROBED_LAYERS]
        for name in weights
        if name.endswith(ending) and name[: -len(ending)][-1:] in ("", ".")
    }

    def rate(prefix: str) -> tuple[int, bool, int]:
        matches = sum(
            prefix + name in weights and weights[prefix + name].shape == tensor.shape
            for name, tensor in expected.items()
        )
        return matches, not _COPIES & set(prefix.split(".")), -len(prefix)

    prefix = max(sorted(prefixes), key=rate, default="")
    stripped = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }
    other_models = {name: tensor for name, tensor in weights.items() if not name.startswith(prefix)}
    return other_models | stripped


def extract_classes(checkpoint: Mapping[str, Any]) -> ClassNames | None:
    """The class names that mmdet stored in the checkpoint; None if there are none."""
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return None
    of_dataset = meta.get("dataset_meta")  # mmdet 3
    for content in (meta, of_dataset if isinstance(of_dataset, Mapping) else {}):
        for key in ("CLASSES", "classes"):
            names = content.get(key)
            if isinstance(names, str) and names:
                return (names,)
            if isinstance(names, list | tuple) and names:
                return tuple(str(name) for name in names)
    return None


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
