"""The spec of an autopilot: what it may choose from, and what it may spend."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from configs.spec.base import Contract, Name
from configs.spec.jobs import ExportFormat
from configs.spec.run import RunSpec
from configs.spec.sweep import Values

AutopilotId = Annotated[str, Field(pattern=r"^a[0-9a-z]{12}$")]
"""The id of an autopilot, assigned by the service."""

_SEARCHED = ("schedule.epochs", "schedule.optimizer.lr")
"""All runs train as many epochs, and the learning rate is searched."""

_Positive = Annotated[float, Field(gt=0.0)]


class AutopilotBudget(Contract):
    """What an autopilot may spend, in one of three units."""

    hours: _Positive | None = None
    """Hours by the clock, from the first run on; pauses do not count."""

    gpu_hours: _Positive | None = None
    """Hours of all GPUs of its jobs, added up."""

    price: _Positive | None = None
    """The price of its jobs, by the prices of an hour in the service's settings."""

    @model_validator(mode="after")
    def _check_units(self) -> Self:
        units = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(units) != 1:
            raise ValueError(
                f"a budget has one unit of hours, gpu_hours and price; got {len(units)}"
            )
        return self


class AutopilotSpec(Contract):
    """From a dataset and a budget to the best student."""

    base: RunSpec
    """Dataset, image size, schedule and resources of every run. Its teacher and its distillation
    are replaced by those that the autopilot tries."""

    teachers: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Registered teachers. The best of them and of the trained ones on the validation images is
    taken."""

    trained_teachers: Annotated[tuple[Name, ...], Field(max_length=4)] = ()
    """Names of backbones that are trained to be teachers, with the head and the schedule of the
    base."""

    students: Annotated[tuple[Name, ...], Field(min_length=1, max_length=16)]
    """Names of backbones, as in `configs.spec.students`."""

    methods: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    """Names of distillation methods. Empty for all that fit."""

    schedules: Annotated[tuple[Values, ...], Field(max_length=4)] = ()
    """Fields of `schedule` that are tried for the student alone with its best learning rate, as
    `{"schedule.policy.kind": "cosine"}`."""

    max_latency_ms: _Positive | None = None
    """Students whose forward pass of one image takes longer are not trained."""

    budget: AutopilotBudget
    formats: Annotated[tuple[ExportFormat, ...], Field(min_length=1, max_length=3)] = (
        "checkpoint",
        "onnx",
        "mlflow",
    )
    """Of the student that is delivered."""

    @model_validator(mode="after")
    def _check_repeated(self) -> Self:
        for field in ("teachers", "trained_teachers", "students", "methods", "formats"):
            values = getattr(self, field)
            if repeated := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{field}: give each one only once, got {', '.join(repeated)}")
        return self

    @model_validator(mode="after")
    def _check_schedules(self) -> Self:
        for path in sorted({path for values in self.schedules for path in values}):
            if not path.startswith("schedule.") or path in _SEARCHED:
                raise ValueError(
                    f"schedules: {path} is no field of another schedule; try fields of schedule, "
                    f"except {' and '.join(_SEARCHED)}"
                )
        return self

    @model_validator(mode="after")
    def _check_teachers(self) -> Self:
        if not (self.teachers or self.trained_teachers):
            raise ValueError("teachers: name a teacher, or a backbone to train as one")
        if both := sorted(set(self.trained_teachers) & {*self.teachers, *self.students}):
            raise ValueError(
                f"trained_teachers: {', '.join(both)} is a student or a registered teacher as well"
            )
        return self
