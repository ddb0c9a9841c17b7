"""Registers and looks up datasets and teachers."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.dataset_catalog import how_to_get_dataset
from configs.protocol.dataset_statistics import DatasetStatistics
from configs.protocol.image_hashes import ImageHashes
from configs.spec.base import is_printable
from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector
from configs.spec.references import Dataset, DatasetFiles, NamedDataset
from configs.teacher_catalog import how_to_get_teacher
from service.domain.access import Caller
from service.domain.errors.conflicts import NameTaken
from service.domain.errors.requests import (
    DatasetNotFound,
    PathRefused,
    StatisticsNotFound,
    TeacherNotFound,
)
from service.domain.registry import RegisteredDataset, RegisteredTeacher, ReplaceForbidden
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.vocabulary import Role
from service.usecases.context import Context


@dataclass(frozen=True)
class TeacherRegistration:
    """A trained detector to register as a teacher; its path and hash are not yet checked."""

    name: str
    checkpoint: Path
    detector: Detector
    classes: ClassNames
    sha256: str | None
    measured_map: float | None
    source: str


def register_dataset(
    root: Path, *, name: str | None, replace: bool, caller: Caller, ctx: Context
) -> tuple[RegisteredDataset, bool]:
    """Register a dataset's folder under a name, and return whether the name is new.

    A repeated call with equal content changes nothing. Raises `NameTaken` if the name belongs to
    other content and `replace` is false, `ReplaceForbidden` if others rely on it, and `PathRefused`
    for an unusable folder.
    """
    resolved = ctx.files.folder(root, field="root")
    manifest = ctx.files.manifest(resolved)
    if not all(map(is_printable, manifest.classes)):
        raise PathRefused("root", resolved, "the name of a class has control characters")
    dataset = RegisteredDataset(
        name=name or manifest.name,
        root=resolved,
        manifest=manifest,
        registered_at=ctx.clock.now(),
        project=caller.project,
    )
    with ctx.store.transaction() as uow:
        uow.registry.lock_inserts()
        existing = uow.registry.dataset(dataset.name)
        if existing is not None and not replace and existing.manifest.digest != manifest.digest:
            raise NameTaken("dataset", dataset.name)
        if existing is not None and (existing.root, existing.manifest) == (resolved, manifest):
            return existing, False
        if existing is not None:
            _check_replaceable(uow, "dataset", existing, caller=caller)
            dataset = dataclasses.replace(dataset, project=existing.project)
        uow.registry.put_dataset(dataset)
    return dataset, existing is None


def register_teacher(
    registration: TeacherRegistration, *, replace: bool, caller: Caller, ctx: Context
) -> tuple[RegisteredTeacher, bool]:
    """Register a checkpoint as a teacher, and return whether the name is new.

    Its SHA-256 is computed and compared with the expected one. Raises `NameTaken` if the name
    belongs to another teacher and `replace` is false, `ReplaceForbidden` if others rely on it, and
    `PathRefused` for an unusable file.
    """
    resolved = ctx.files.file(registration.checkpoint, field="checkpoint")
    sha256 = ctx.files.sha256(resolved)
    if sha256 is None:
        raise PathRefused("checkpoint", resolved, "it was removed during registration")
    if registration.sha256 is not None and registration.sha256 != sha256:
        raise PathRefused("sha256", resolved, f"its SHA-256 is {sha256}, not {registration.sha256}")
    teacher = RegisteredTeacher(
        name=registration.name,
        checkpoint=resolved,
        sha256=sha256,
        detector=registration.detector,
        classes=registration.classes,
        measured_map=registration.measured_map,
        source=registration.source,
        registered_at=ctx.clock.now(),
        project=caller.project,
    )
    with ctx.store.transaction() as uow:
        uow.registry.lock_inserts()
        existing = uow.registry.teacher(teacher.name)
        if existing is not None and not replace and not _is_same_teacher(existing, teacher):
            raise NameTaken("teacher", teacher.name)
        if existing is not None:
            teacher = dataclasses.replace(teacher, project=existing.project)
            if _is_same_teacher(existing, teacher):
                # Keeps the teacher's measurements by earlier runs valid.
                teacher = dataclasses.replace(teacher, registered_at=existing.registered_at)
            if teacher == existing:
                return existing, False
            _check_replaceable(uow, "teacher", existing, caller=caller)
        uow.registry.put_teacher(teacher)
    return teacher, existing is None


def _is_same_teacher(a: RegisteredTeacher, b: RegisteredTeacher) -> bool:
    """Whether both compute the same outputs; path and source may differ."""
    return (a.sha256, a.detector, a.classes) == (b.sha256, b.detector, b.classes)


def _check_replaceable(
    uow: UnitOfWork,
    kind: Literal["dataset", "teacher"],
    existing: RegisteredDataset | RegisteredTeacher,
    *,
    caller: Caller,
) -> None:
    """Raise `ReplaceForbidden` unless the caller's project registered it and no other project has
    unfinished work that refers to it. Admins may replace everything."""
    if caller.has_role(Role.ADMIN):
        return
    if caller.project is None or existing.project != caller.project:
        raise ReplaceForbidden(kind, existing.name, "was not registered by your project")
    if uow.registry.has_unfinished_users(kind, existing.name, outside=caller.project):
        raise ReplaceForbidden(kind, existing.name, "is used by unfinished runs of other projects")


def get_dataset(name: str, *, ctx: Context) -> RegisteredDataset:
    with ctx.store.transaction() as uow:
        dataset = uow.registry.dataset(name)
        if dataset is None:
            raise DatasetNotFound(name, hint=explain_missing_dataset(uow, name))
    return dataset


def get_dataset_statistics(name: str, *, ctx: Context) -> DatasetStatistics:
    """The statistics that a worker has computed; raises `StatisticsNotFound` if none has."""
    dataset = get_dataset(name, ctx=ctx)
    statistics = find_statistics(dataset, ctx=ctx)
    if statistics is None:
        raise StatisticsNotFound(name, root=dataset.root)
    return statistics


def find_statistics(dataset: RegisteredDataset, *, ctx: Context) -> DatasetStatistics | None:
    """The statistics of exactly the registered data; None if there are none."""
    statistics = ctx.files.statistics(dataset.root)
    if statistics is None or statistics.dataset_digest != dataset.manifest.digest:
        return None
    return statistics


def find_image_hashes(dataset: RegisteredDataset, *, ctx: Context) -> ImageHashes | None:
    """The hashes of exactly the registered images; None if the import has not stored any."""
    hashes = ctx.files.image_hashes(dataset.root)
    if hashes is None or hashes.dataset_digest != dataset.manifest.digest:
        return None
    return hashes


def explain_missing_dataset(uow: UnitOfWork, name: str) -> str:
    """How to get a dataset that is not registered, or which name was meant."""
    return how_to_get_dataset(name, registered=[item.name for item in uow.registry.datasets()])


def resolve_dataset_files(uow: UnitOfWork, reference: Dataset) -> DatasetFiles:
    """The folder of a dataset reference; `DatasetNotFound` if its name is not registered."""
    if not isinstance(reference, NamedDataset):
        return reference
    dataset = uow.registry.dataset(reference.name)
    if dataset is None:
        hint = explain_missing_dataset(uow, reference.name)
        raise DatasetNotFound(reference.name, hint=hint)
    return DatasetFiles(root=str(dataset.root), digest=dataset.manifest.digest)


def list_datasets(*, ctx: Context) -> list[RegisteredDataset]:
    with ctx.store.snapshot() as uow:
        return uow.registry.datasets()


def get_teacher(name: str, *, ctx: Context) -> RegisteredTeacher:
    """The teacher with this name, or `TeacherNotFound` with a hint where to get it."""
    with ctx.store.snapshot() as uow:
        teacher = uow.registry.teacher(name)
        if teacher is None:
            registered = [item.name for item in uow.registry.teachers()]
            hint = how_to_get_teacher(name, registered=registered)
            raise TeacherNotFound(name, hint=hint)
    return teacher


def list_teachers(*, ctx: Context) -> list[RegisteredTeacher]:
    with ctx.store.snapshot() as uow:
        return uow.registry.teachers()
