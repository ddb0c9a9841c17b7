"""Registered datasets and teachers, and the presets."""

from pathlib import Path

from fastapi import Response, status

from configs.catalog import load_preset, preset_names
from service.api.deps import CallerDep, ContextDep
from service.api.routers import create_router
from service.api.schemas.registry import (
    DatasetRequest,
    DatasetView,
    PresetView,
    StatisticsView,
    TeacherRequest,
    TeacherView,
)
from service.api.views import to_dataset_view, to_statistics_view, to_teacher_view
from service.usecases import registry

router = create_router(tag="datasets, teachers, presets")


@router.post("/datasets", status_code=status.HTTP_201_CREATED)
def register_dataset(
    body: DatasetRequest, response: Response, ctx: ContextDep, caller: CallerDep
) -> DatasetView:
    """Register the dataset in a folder under a name."""
    dataset, is_new = registry.register_dataset(
        Path(body.root), name=body.name, replace=body.replace, caller=caller, ctx=ctx
    )
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return to_dataset_view(dataset)


@router.get("/datasets")
def list_datasets(ctx: ContextDep) -> list[DatasetView]:
    """All registered datasets."""
    return [to_dataset_view(dataset) for dataset in registry.list_datasets(ctx=ctx)]


@router.get("/datasets/{name}")
def show_dataset(name: str, ctx: ContextDep) -> DatasetView:
    """One registered dataset."""
    return to_dataset_view(registry.get_dataset(name, ctx=ctx))


@router.get("/datasets/{name}/statistics")
def show_dataset_statistics(name: str, ctx: ContextDep) -> StatisticsView:
    """Images, classes and object sizes of a dataset, and near duplicates across its parts.

    Workers compute them at the import; a dataset without them is answered with the command.
    """
    return to_statistics_view(name, registry.get_dataset_statistics(name, ctx=ctx))


@router.post("/teachers", status_code=status.HTTP_201_CREATED)
def register_teacher(
    body: TeacherRequest, response: Response, ctx: ContextDep, caller: CallerDep
) -> TeacherView:
    """Register a trained detector as a teacher."""
    offer = registry.TeacherRegistration(
        name=body.name,
        checkpoint=Path(body.checkpoint),
        detector=body.detector,
        classes=body.classes,
        sha256=body.sha256,
        measured_map=body.measured_map,
        source=body.source,
    )
    teacher, is_new = registry.register_teacher(offer, replace=body.replace, caller=caller, ctx=ctx)
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return to_teacher_view(teacher)


@router.get("/teachers")
def list_teachers(ctx: ContextDep) -> list[TeacherView]:
    """All registered teachers."""
    return [to_teacher_view(teacher) for teacher in registry.list_teachers(ctx=ctx)]


@router.get("/teachers/{name}")
def show_teacher(name: str, ctx: ContextDep) -> TeacherView:
    """One registered teacher."""
    return to_teacher_view(registry.get_teacher(name, ctx=ctx))


@router.get("/presets")
def list_presets() -> list[PresetView]:
    """All presets with their summaries."""
    return [PresetView(name=name, summary=load_preset(name).summary) for name in preset_names()]
