"""Imports a teacher: checks its file against an architecture, writes weights and a card."""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.models import build_detector

from configs.atomic_files import write_atomically
from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector
from workers.checkpoints.files import (
    compute_sha256,
    load_teacher_weights,
    save_atomically,
)
from workers.errors import TeacherMismatch
from workers.models import efficientnet_lite as _backbones  # noqa: F401  registers them
from workers.models.detector_config import build_detector_config
from workers.teachers.conversion import (
    WeightsComparison,
    compare_weights,
    extract_classes,
    extract_weights,
    strip_wrapper,
)
from workers.teachers.download import DownloadContext, OnBytes, open_local_copy, redact_source
from workers.teachers.foreign_files import ForeignObjects, load_foreign_checkpoint

_MAX_LISTED_CLASSES = 5


class WeightsMismatch(TeacherMismatch):
    """The file's layers do not match the detector; `comparison` has the details."""

    def __init__(self, message: str, *, comparison: WeightsComparison) -> None:
        super().__init__(message)
        self.comparison = comparison


@dataclass(frozen=True)
class TeacherImportRequest:
    """What the user states about the file."""

    name: str
    detector: Detector
    classes: ClassNames | None
    """None for the classes that are stored in the file."""

    sha256: str | None
    """SHA-256 of the file, or its first digits; None if it is not to be verified."""

    drop_unknown: bool = False
    """Drop layers that the detector does not have, even if their purpose is unknown."""


@dataclass(frozen=True)
class TeacherImportResult:
    """An imported teacher: its weights file, its card, and how its layers matched."""

    weights: Path
    card: dict[str, Any]
    comparison: WeightsComparison


def import_teacher(
    source: str,
    *,
    request: TeacherImportRequest,
    out: Path,
    context: DownloadContext,
    on_bytes: OnBytes,
) -> TeacherImportResult:
    """Write the weights as `<name>.pth` and the card as `<name>.json` to the folder `out`.

    Raises `SourceUnusable` if there is no file; `TeacherMismatch` if it does not match `sha256` or
    cannot be loaded without executing code; `WeightsMismatch` if it belongs to another detector.
    """
    with open_local_copy(source, folder=out, context=context, on_bytes=on_bytes) as file:
        digest = _verify_digest(file, request=request, source=source)
        checkpoint = _load_checkpoint(file, source=source)
    classes = _resolve_classes(extract_classes(checkpoint), request.classes, source=source)
    detector = build_detector(build_detector_config(request.detector, classes=classes))
    expected = detector.state_dict()
    comparison = compare_weights(strip_wrapper(extract_weights(checkpoint), expected), expected)
    _check_comparison(comparison, request=request, classes=classes)

    path = out / f"{request.name}.pth"
    save_atomically({"meta": {"CLASSES": classes}, "state_dict": comparison.weights}, path)
    card = {
        "name": request.name,
        "sha256": load_teacher_weights(detector, path, sha256=None),
        "detector": request.detector.model_dump(mode="json"),
        "classes": list(classes),
        "source": f"{redact_source(source)} (SHA-256 {digest}), by tandem-worker teachers import",
    }
    write_atomically(path.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    return TeacherImportResult(path, card, comparison)


def _verify_digest(file: Path, *, request: TeacherImportRequest, source: str) -> str:
    digest = compute_sha256(file)
    if request.sha256 is not None and not digest.startswith(request.sha256):
        raise TeacherMismatch(
            f"{redact_source(source)} is not the expected file: its SHA-256 is {digest}, expected "
            f"{request.sha256}. It was not opened."
        )
    return digest


def _load_checkpoint(file: Path, *, source: str) -> dict[str, Any]:
    try:
        checkpoint: dict[str, Any] = load_foreign_checkpoint(file)
        extract_weights(checkpoint)
    except ForeignObjects as error:
        raise TeacherMismatch(
            f"{redact_source(source)} contains more than weights and plain values, which could be "
            f"code ({error}); it was not loaded. Save its state dict alone, with torch.save, and "
            "import that."
        ) from error
    except ValueError as error:
        raise TeacherMismatch(f"{redact_source(source)} cannot be used: {error}.") from error
    # torch raises these for other formats, for empty or truncated files, and code in old ones.
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise TeacherMismatch(
            f"{redact_source(source)} is damaged, or contains more than weights and plain "
            "values, which could be code; it was not loaded."
        ) from error
    return checkpoint


def _resolve_classes(
    of_file: ClassNames | None, requested: ClassNames | None, *, source: str
) -> ClassNames:
    classes = requested or of_file
    if classes is None:
        raise TeacherMismatch(
            f"{redact_source(source)} does not contain class names; add --classes."
        )
    if of_file is None or of_file == classes:
        return classes
    raise TeacherMismatch(
        f"{redact_source(source)} has {len(of_file)} classes and {len(classes)} are given: "
        f"{_describe_class_differences(of_file, classes)}."
    )


def _describe_class_differences(of_file: ClassNames, requested: ClassNames) -> str:
    differences = [
        f"{label}: {_join_names(names)}"
        for label, names in (
            ("only in the file", [name for name in of_file if name not in requested]),
            ("only given", [name for name in requested if name not in of_file]),
        )
        if names
    ]
    return "; ".join(differences) or "the same ones in another order"


def _check_comparison(
    comparison: WeightsComparison, *, request: TeacherImportRequest, classes: ClassNames
) -> None:
    if comparison.class_counts is not None:
        num_classes = comparison.class_counts[0] // request.detector.anchors
        raise WeightsMismatch(
            f"The file has {num_classes} classes and {len(classes)} are given "
            f"({_join_names(classes)}); set --classes to those of the file, in the order "
            "of its outputs.",
            comparison=comparison,
        )
    if not comparison.fits:
        raise WeightsMismatch(
            f"{len(comparison.missing)} layers of the detector are missing from the file and "
            f"{len(comparison.mismatched)} have another shape; it is another architecture, so "
            "choose another --preset or --detector.",
            comparison=comparison,
        )
    if comparison.unexplained and not request.drop_unknown:
        raise WeightsMismatch(
            f"The file has {len(comparison.unexplained)} layers that the detector does not "
            "have; the file's architecture may be larger than the chosen one. Choose another "
            "--preset or --detector, or drop these layers with --drop-unknown.",
            comparison=comparison,
        )


def _join_names(names: ClassNames | list[str]) -> str:
    num_more = len(names) - _MAX_LISTED_CLASSES
    return ", ".join(names[:_MAX_LISTED_CLASSES]) + (
        f" and {num_more} more" if num_more > 0 else ""
    )
