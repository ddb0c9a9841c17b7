"""Datasets, teachers and presets by name."""

from pathlib import Path

from fastapi import APIRouter, Response, status

from configs.catalog import load_preset, preset_names
from service.api.deps import WorldDep
from service.api.schemas.registry import (
    DatasetRequest,
    DatasetView,
    PresetView,
    TeacherRequest,
    TeacherView,
)
from service.api.views import view_of_dataset, view_of_teacher
from service.usecases import registry

router = APIRouter(prefix="/v1", tags=["datasets, teachers, presets"])


@router.post("/datasets", status_code=status.HTTP_201_CREATED)
def register_dataset(body: DatasetRequest, response: Response, world: WorldDep) -> DatasetView:
    """Give the dataset in a folder a name."""
    dataset, is_new = registry.register_dataset(
        Path(body.root), name=body.name, replace=body.replace, world=world
    )
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return view_of_dataset(dataset)


@router.get("/datasets")
def list_datasets(world: WorldDep) -> list[DatasetView]:
    """All datasets."""
    return [view_of_dataset(dataset) for dataset in registry.list_datasets(world=world)]


@router.get("/datasets/{name}")
def show_dataset(name: str, world: WorldDep) -> DatasetView:
    """One dataset."""
    return view_of_dataset(registry.show_dataset(name, world=world))


@router.post("/teachers", status_code=status.HTTP_201_CREATED)
def register_teacher(body: TeacherRequest, response: Response, world: WorldDep) -> TeacherView:
    """Give a trained detector a name."""
    offer = registry.TeacherOffer(
        name=body.name,
        checkpoint=Path(body.checkpoint),
        detector=body.detector,
        classes=body.classes,
        sha256=body.sha256,
        measured_map=body.measured_map,
        source=body.source,
    )
    teacher, is_new = registry.register_teacher(offer, replace=body.replace, world=world)
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return view_of_teacher(teacher)


@router.get("/teachers")
def list_teachers(world: WorldDep) -> list[TeacherView]:
    """All teachers."""
    return [view_of_teacher(teacher) for teacher in registry.list_teachers(world=world)]


@router.get("/teachers/{name}")
def show_teacher(name: str, world: WorldDep) -> TeacherView:
    """One teacher."""
    return view_of_teacher(registry.show_teacher(name, world=world))


@router.get("/presets")
def list_presets() -> list[PresetView]:
    """All presets."""
    return [PresetView(name=name, summary=load_preset(name).summary) for name in preset_names()]
