"""Initial weights of a student that are its teacher's, as FGD's `init_student` takes them.

A layer is taken if all of its tensors have the teacher's shapes: a bias without its weights, or a
normalization without its scale, is worth nothing. Class layers are reordered to the student's
classes.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from configs.protocol.inheritance import InheritedWeights
from configs.spec.detector import Part
from workers.checkpoints.files import CLASS_LAYER_ENDINGS, StateDict
from workers.errors import TeacherMismatch

_MODULES: dict[Part, str] = {"neck": "neck", "head": "bbox_head"}


def inherit_weights(
    student: nn.Module,
    teacher: Any,
    *,
    parts: Sequence[Part],
    columns: Sequence[int] | None,
) -> InheritedWeights:
    """Copy the teacher's weights into `parts` of the student, by layer, where shapes are equal.

    `columns` holds the index of each student class among the teacher's; None if both have the same
    classes. Raises `TeacherMismatch` if no convolution of a part can be taken.
    """
    weights = dict(_iter_student_classes(teacher, columns))
    tensors: list[str] = []
    unmatched: list[str] = []
    for part in parts:
        own = _select_part(student.state_dict(), part)
        for _, layer in groupby(own, key=_get_layer):
            names = list(layer)
            fits = all(name in weights and weights[name].shape == own[name].shape for name in names)
            (tensors if fits else unmatched).extend(names)
        if not any(name in tensors and tensor.ndim == 4 for name, tensor in own.items()):
            raise TeacherMismatch(_explain_nothing_fits(part, own, weights))
    with torch.no_grad():
        for name in tensors:
            student.state_dict()[name].copy_(weights[name])
    return InheritedWeights(parts=tuple(parts), tensors=tuple(tensors), unmatched=tuple(unmatched))


def _iter_student_classes(
    teacher: Any, columns: Sequence[int] | None
) -> Iterator[tuple[str, Tensor]]:
    """The teacher's tensors by name, with the rows of the student's classes in class layers."""
    num_classes = teacher.bbox_head.num_classes
    for name, tensor in teacher.state_dict().items():
        if columns is None or not name.endswith(CLASS_LAYER_ENDINGS):
            yield name, tensor
            continue
        # One row for each class, and that for each anchor.
        by_anchor = tensor.unflatten(0, (-1, num_classes))
        yield name, by_anchor[:, list(columns)].flatten(0, 1)


def _select_part(state: StateDict, part: Part) -> StateDict:
    prefix = f"{_MODULES[part]}."
    return {name: tensor for name, tensor in state.items() if name.startswith(prefix)}


def _get_layer(name: str) -> str:
    return name.rpartition(".")[0]


def _explain_nothing_fits(part: Part, own: StateDict, weights: StateDict) -> str:
    name, tensor = next((name, tensor) for name, tensor in own.items() if tensor.ndim == 4)
    other = f"{tuple(weights[name].shape)}" if name in weights else "missing"
    return (
        f"student.inherit names the {part}, but no convolution of it has the teacher's shape: "
        f"{name} is {tuple(tensor.shape)} in the student and {other} in the teacher. Give both "
        f"detectors the same channels and kind of head, or leave {part} out."
    )
