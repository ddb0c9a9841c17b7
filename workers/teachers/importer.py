"""Brings a teacher in: looks at its file, converts it, writes weights and card."""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.models import build_detector

from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector
from workers.checkpoints.files import (
    compute_sha256,
    load_checkpoint,
    load_teacher_weights,
    save_atomically,
    write_atomically,
)
from workers.errors import TeacherMismatch
from workers.models import efficientnet_lite as _backbones  # noqa: F401  registers them
from workers.models.detector_config import build_detector_config
from workers.teachers.conversion import (
    WeightsComparison,
    compare_weights,
    extract_classes,
    extract_weights,
)
from workers.teachers.download import DownloadContext, OnBytes, open_local_copy, redact_source

_SHOWN_CLASSES = 5


class WeightsMismatch(TeacherMismatch):
    """The file's layers are not those of the detector; `comparison` names each."""

    def __init__(self, message: str, *, comparison: WeightsComparison) -> None:
        super().__init__(message)
        self.comparison = comparison


@dataclass(frozen=True)
class TeacherImportRequest:
    """What the file is said to be."""

    name: str
    detector: Detector
    classes: ClassNames | None
    """None: those that the file names."""

    sha256: str | None
    """Of the file, or its first digits."""

    drop_unknown: bool = False
    """Leave out layers that the detector does not have, whatever they are for."""


@dataclass(frozen=True)
class TeacherImportResult:
    """A teacher that is here: its card, and how its layers were found."""

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
    """Write `<name>.pth`, weights alone, and `<name>.json`, its card, to the folder `out`.

    Raises `SourceUnusable`, and `TeacherMismatch` for another file than `sha256` says, for one that
    cannot be read without running code, and (`WeightsMismatch`) for one of another detector.
    """
    with open_local_copy(source, folder=out, context=context, on_bytes=on_bytes) as file:
        digest = _checked_digest(file, wanted=request, source=source)
        checkpoint = _read(file, source=source)
    classes = _agreed_classes(extract_classes(checkpoint), request.classes, source=source)
    detector = build_detector(build_detector_config(request.detector, classes=classes))
    comparison = compare_weights(extract_weights(checkpoint), detector.state_dict())
    _refuse_what_does_not_fit(comparison, wanted=request, classes=classes)

    path = out / f"{request.name}.pth"
    save_atomically({"meta": {"CLASSES": classes}, "state_dict": comparison.weights}, path)
    card = {
        "name": request.name,
        "sha256": load_teacher_weights(detector, path, sha256=None),
        "detector": request.detector.model_dump(mode="json"),
        "classes": list(classes),
        "source": f"{redact_source(source)} (SHA-256 {digest}), by tandem-worker teacher import",
    }
    write_atomically(path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode("utf-8"))
    return TeacherImportResult(path, card, comparison)


def _checked_digest(file: Path, *, wanted: TeacherImportRequest, source: str) -> str:
    digest = compute_sha256(file)
    if wanted.sha256 is not None and not digest.startswith(wanted.sha256):
        raise TeacherMismatch(
            f"{redact_source(source)} is not the file that is meant: its SHA-256 is {digest}, expected "
            f"{wanted.sha256}. It was not opened."
        )
    return digest


def _read(file: Path, *, source: str) -> dict[str, Any]:
    try:
        checkpoint = load_checkpoint(file)
        extract_weights(checkpoint)
    # What torch raises: code or another format, a file without content, a cut archive.
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        raise TeacherMismatch(
            f"{redact_source(source)} is damaged or holds more than weights and plain values, which could "
            f"be code; it was not loaded. ({_first_line(error)})"
        ) from error
    return checkpoint


def _agreed_classes(
    of_file: ClassNames | None, said: ClassNames | None, *, source: str
) -> ClassNames:
    classes = said or of_file
    if classes is None:
        raise TeacherMismatch(f"{redact_source(source)} does not name its classes; give --classes.")
    if of_file is None or of_file == classes:
        return classes
    raise TeacherMismatch(
        f"{redact_source(source)} knows {len(of_file)} classes and {len(classes)} are given: "
        f"{_class_differences(of_file, classes)}."
    )


def _class_differences(of_file: ClassNames, said: ClassNames) -> str:
    differences = [
        f"{who}: {_some(names)}"
        for who, names in (
            ("only in the file", [name for name in of_file if name not in said]),
            ("only given", [name for name in said if name not in of_file]),
        )
        if names
    ]
    return "; ".join(differences) or "the same ones in another order"


def _refuse_what_does_not_fit(
    comparison: WeightsComparison, *, wanted: TeacherImportRequest, classes: ClassNames
) -> None:
    if comparison.class_counts is not None:
        theirs = comparison.class_counts[0] // wanted.detector.anchors
        raise WeightsMismatch(
            f"The file knows {theirs} classes and {len(classes)} are given ({_some(classes)}); "
            "give --classes with its own, in the order of its outputs.",
            comparison=comparison,
        )
    if not comparison.fits:
        raise WeightsMismatch(
            f"{len(comparison.missing)} layers of the detector are missing from the file and "
            f"{len(comparison.mismatched)} have another shape; it is another architecture, so give "
            "another --preset or --detector.",
            comparison=comparison,
        )
    if comparison.unexplained and not wanted.drop_unknown:
        raise WeightsMismatch(
            f"The file has {len(comparison.unexplained)} layers that the detector lacks: a smaller "
            "architecture than the file's would fit, too, and be wrong. Give another --preset or "
            "--detector, or leave them out with --drop-unknown.",
            comparison=comparison,
        )


def _some(names: ClassNames | list[str]) -> str:
    rest = len(names) - _SHOWN_CLASSES
    return ", ".join(names[:_SHOWN_CLASSES]) + (f" and {rest} more" if rest > 0 else "")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
