"""Datasets and teachers: give them a name, look them up."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector
from configs.spec.run import Dataset, DatasetFiles, NamedDataset
from configs.teacher_catalog import way_to_get
from service.domain.errors import DatasetNotFound, NameTaken, PathRefused, TeacherNotFound
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.repositories.unit_of_work import Unit
from service.usecases.context import World


@dataclass(frozen=True)
class TeacherOffer:
    """A trained detector that somebody wants to teach with."""

    name: str
    checkpoint: Path
    detector: Detector
    classes: ClassNames
    sha256: str | None
    measured_map: float | None
    source: str


def register_dataset(
    root: Path, *, name: str | None, replace: bool, world: World
) -> tuple[RegisteredDataset, bool]:
    """Give a dataset's folder a name, and whether that is new; the same again changes nothing."""
    resolved = world.files.folder(root, field="root")
    manifest = world.files.manifest(resolved)
    dataset = RegisteredDataset(
        name=name or manifest.name,
        root=resolved,
        manifest=manifest,
        registered_at=world.clock.now(),
    )
    with world.store.begin() as unit:
        known = unit.registry.dataset(dataset.name)
        if known is not None and not replace and known.manifest.digest != manifest.digest:
            raise NameTaken("dataset", dataset.name)
        if known is not None and (known.root, known.manifest) == (resolved, manifest):
            return known, False
        unit.registry.put_dataset(dataset)
    return dataset, known is None


def register_teacher(
    offer: TeacherOffer, *, replace: bool, world: World
) -> tuple[RegisteredTeacher, bool]:
    """Give a checkpoint a name, and whether that is new; its hash is taken and compared."""
    resolved = world.files.file(offer.checkpoint, field="checkpoint")
    sha256 = world.files.sha256(resolved)
    if sha256 is None:
        raise PathRefused("checkpoint", resolved, "it has just been removed")
    if offer.sha256 is not None and offer.sha256 != sha256:
        raise PathRefused("sha256", resolved, f"its SHA-256 is {sha256}, not {offer.sha256}")
    teacher = RegisteredTeacher(
        name=offer.name,
        checkpoint=resolved,
        sha256=sha256,
        detector=offer.detector,
        classes=offer.classes,
        measured_map=offer.measured_map,
        source=offer.source,
        registered_at=world.clock.now(),
    )
    with world.store.begin() as unit:
        known = unit.registry.teacher(teacher.name)
        if known is not None and not replace and not _is_same(known, teacher):
            raise NameTaken("teacher", teacher.name)
        if known is not None and _is_same(known, teacher):
            # Runs that measured it since stay runs of this teacher.
            teacher = dataclasses.replace(teacher, registered_at=known.registered_at)
        unit.registry.put_teacher(teacher)
    return teacher, known is None


def _is_same(one: RegisteredTeacher, other: RegisteredTeacher) -> bool:
    """Whether both teach the same; file and source may differ."""
    ours, theirs = ((t.sha256, t.detector, t.classes) for t in (one, other))
    return ours == theirs


def show_dataset(name: str, *, world: World) -> RegisteredDataset:
    """A dataset; `DatasetNotFound` if there is none."""
    with world.store.begin() as unit:
        dataset = unit.registry.dataset(name)
    if dataset is None:
        raise DatasetNotFound(name)
    return dataset


def dataset_files(unit: Unit, reference: Dataset) -> DatasetFiles:
    """Where the images of a reference lie; `DatasetNotFound` if its name is not registered."""
    if not isinstance(reference, NamedDataset):
        return reference
    dataset = unit.registry.dataset(reference.name)
    if dataset is None:
        raise DatasetNotFound(reference.name)
    return DatasetFiles(root=str(dataset.root), digest=dataset.manifest.digest)


def list_datasets(*, world: World) -> list[RegisteredDataset]:
    """All datasets by name."""
    with world.store.begin() as unit:
        return unit.registry.datasets()


def show_teacher(name: str, *, world: World) -> RegisteredTeacher:
    """A teacher; `TeacherNotFound` if there is none."""
    with world.store.begin() as unit:
        teacher = unit.registry.teacher(name)
    if teacher is None:
        raise TeacherNotFound(name, way_to_get=way_to_get(name))
    return teacher


def list_teachers(*, world: World) -> list[RegisteredTeacher]:
    """All teachers by name."""
    with world.store.begin() as unit:
        return unit.registry.teachers()
