"""Datasets and teachers: give them a name, look them up."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector
from configs.spec.run import Dataset, DatasetFiles, NamedDataset
from configs.teacher_catalog import how_to_get_teacher
from service.domain.errors import DatasetNotFound, NameTaken, PathRefused, TeacherNotFound
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.repositories.unit_of_work import UnitOfWork
from service.usecases.context import Context


@dataclass(frozen=True)
class TeacherRegistration:
    """A trained detector that somebody wants to teach with."""

    name: str
    checkpoint: Path
    detector: Detector
    classes: ClassNames
    sha256: str | None
    measured_map: float | None
    source: str


def register_dataset(
    root: Path, *, name: str | None, replace: bool, ctx: Context
) -> tuple[RegisteredDataset, bool]:
    """Give a dataset's folder a name, and whether that is new; the same again changes nothing."""
    resolved = ctx.files.folder(root, field="root")
    manifest = ctx.files.manifest(resolved)
    dataset = RegisteredDataset(
        name=name or manifest.name,
        root=resolved,
        manifest=manifest,
        registered_at=ctx.clock.now(),
    )
    with ctx.store.transaction() as uow:
        known = uow.registry.dataset(dataset.name)
        if known is not None and not replace and known.manifest.digest != manifest.digest:
            raise NameTaken("dataset", dataset.name)
        if known is not None and (known.root, known.manifest) == (resolved, manifest):
            return known, False
        uow.registry.put_dataset(dataset)
    return dataset, known is None


def register_teacher(
    offer: TeacherRegistration, *, replace: bool, ctx: Context
) -> tuple[RegisteredTeacher, bool]:
    """Give a checkpoint a name, and whether that is new; its hash is taken and compared."""
    resolved = ctx.files.file(offer.checkpoint, field="checkpoint")
    sha256 = ctx.files.sha256(resolved)
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
        registered_at=ctx.clock.now(),
    )
    with ctx.store.transaction() as uow:
        known = uow.registry.teacher(teacher.name)
        if known is not None and not replace and not _is_same(known, teacher):
            raise NameTaken("teacher", teacher.name)
        if known is not None and _is_same(known, teacher):
            # Runs that measured it since stay runs of this teacher.
            teacher = dataclasses.replace(teacher, registered_at=known.registered_at)
        uow.registry.put_teacher(teacher)
    return teacher, known is None


def _is_same(one: RegisteredTeacher, other: RegisteredTeacher) -> bool:
    """Whether both teach the same; file and source may differ."""
    ours, theirs = ((t.sha256, t.detector, t.classes) for t in (one, other))
    return ours == theirs


def get_dataset(name: str, *, ctx: Context) -> RegisteredDataset:
    """A dataset; `DatasetNotFound` if there is none."""
    with ctx.store.transaction() as uow:
        dataset = uow.registry.dataset(name)
    if dataset is None:
        raise DatasetNotFound(name)
    return dataset


def resolve_dataset_files(uow: UnitOfWork, reference: Dataset) -> DatasetFiles:
    """Where the images of a reference lie; `DatasetNotFound` if its name is not registered."""
    if not isinstance(reference, NamedDataset):
        return reference
    dataset = uow.registry.dataset(reference.name)
    if dataset is None:
        raise DatasetNotFound(reference.name)
    return DatasetFiles(root=str(dataset.root), digest=dataset.manifest.digest)


def list_datasets(*, ctx: Context) -> list[RegisteredDataset]:
    """All datasets by name."""
    with ctx.store.transaction() as uow:
        return uow.registry.datasets()


def get_teacher(name: str, *, ctx: Context) -> RegisteredTeacher:
    """A teacher; `TeacherNotFound` if there is none."""
    with ctx.store.transaction() as uow:
        teacher = uow.registry.teacher(name)
    if teacher is None:
        raise TeacherNotFound(name, hint=how_to_get_teacher(name))
    return teacher


def list_teachers(*, ctx: Context) -> list[RegisteredTeacher]:
    """All teachers by name."""
    with ctx.store.transaction() as uow:
        return uow.registry.teachers()
