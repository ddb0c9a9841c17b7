"""Registers what an autopilot delivers as a version of a model in MLflow's registry."""

import re
from dataclasses import dataclass
from typing import Final

from configs.conclusions import format_points
from configs.protocol.names import DEFAULT_PROJECT, RunFile, Tag
from configs.spec.jobs import ExportSpec
from configs.spec.references import NamedDataset
from service.domain.autopilot.autopilots import Autopilot
from service.domain.autopilot.history import AutopilotHistory, Conclusion, RunLaunch
from service.domain.errors.systems import TrackerRefused, TrackerUnreachable
from service.domain.ports import ModelRelease
from service.domain.runs import Run
from service.usecases.context import Context

CHAMPION: Final = "champion"
"""The alias of the version that was delivered last."""

_MODEL_PATH = f"{RunFile.EXPORT}/mlflow"
"""Of the exported MLflow model among the artifacts of its run."""

_REFUSED_CHARACTERS = re.compile(r"[^A-Za-z0-9 _.-]+")


@dataclass(frozen=True)
class Registration:
    """Whether MLflow has a delivery."""

    message: str
    """Empty where nothing is to be registered."""

    is_over: bool
    """Whether another try would change nothing."""


def register_delivery(
    autopilot: Autopilot, history: AutopilotHistory, delivered: Run, export: Run, *, ctx: Context
) -> Registration:
    """Register the exported MLflow model of a succeeded export, once however often it is called.

    Neither a refusal nor an MLflow that does not answer raises an error: other autopilots go on.
    """
    if not isinstance(export.spec, ExportSpec) or "mlflow" not in export.spec.formats:
        return Registration("", is_over=True)
    if not export.tracking.mlflow_synced:
        message = f"MLflow does not have all files of the export, run {export.id}, yet."
        return Registration(message, is_over=False)
    mlflow_run_id = export.tracking.mlflow_run_id
    if mlflow_run_id is None:
        message = f"MLflow has no run of the export, run {export.id}: no model is registered."
        return Registration(message, is_over=True)
    conclusion = history.entries[-1]
    assert isinstance(conclusion, Conclusion)  # nothing else is delivered
    name = name_model(autopilot)
    release = ModelRelease(
        name=name,
        mlflow_run_id=mlflow_run_id,
        path=_MODEL_PATH,
        alias=CHAMPION,
        description=conclusion.message,
        tags=_list_tags(autopilot, history, conclusion, delivered),
    )
    try:
        version = ctx.tracker.register_model(release)
    except TrackerRefused as error:
        return Registration(f"The model is not registered: {error}", is_over=True)
    except TrackerUnreachable as error:
        return Registration(f"The model is not registered yet: {error}", is_over=False)
    message = f"MLflow has it as version {version} of the model {name}, alias {CHAMPION}."
    return Registration(message, is_over=True)


def name_model(autopilot: Autopilot) -> str:
    """The registered model of all autopilots of a name in a project."""
    prefix = "" if autopilot.project == DEFAULT_PROJECT else f"{autopilot.project} "
    name = _REFUSED_CHARACTERS.sub("-", f"{prefix}{autopilot.name}").strip(" .-")
    return name or autopilot.id


def _list_tags(
    autopilot: Autopilot, history: AutopilotHistory, conclusion: Conclusion, delivered: Run
) -> dict[str, str]:
    """Where the version comes from, and what is claimed of it."""
    dataset = autopilot.spec.base.data.dataset
    launches = (entry for entry in history.entries if isinstance(entry, RunLaunch))
    launch = next(launch for launch in launches if launch.key == conclusion.run)
    gain = conclusion.gains.get(conclusion.arm or "") if conclusion.claims_gain else None
    tags = {
        str(Tag.AUTOPILOT_ID): autopilot.id,
        str(Tag.RUN_ID): delivered.id,
        "tandem.dataset": dataset.name if isinstance(dataset, NamedDataset) else dataset.root,
        "tandem.teacher": launch.arm.teacher or "none",
        "tandem.method": launch.arm.name,
        "tandem.gain": "not confirmed",
    }
    if gain is not None:
        low = "" if gain.low is None else f", above {format_points(gain.low)}"
        tags["tandem.gain"] = f"{format_points(gain.mean)} mAP over {gain.pairs} pairs{low}"
    return tags
