"""What the API takes. The client speaks these too."""

import json
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, JsonValue, model_validator

from configs.spec import (
    ClassNames,
    Contract,
    Detector,
    EvaluationSpec,
    ExportSpec,
    Name,
    Sha256,
    Task,
)
from service.domain.access import Role
from service.domain.comparisons import ReportFormat
from service.domain.states import RunState
from service.domain.sweeps import SweepState
from service.domain.twins import BaselineWish

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
"""A name is an argument of the job's command line: no shell takes a NUL there."""


RunName = Annotated[str, Field(min_length=1, max_length=200, pattern=_PRINTABLE)]
"""What a run is called on screen."""


Priority = Annotated[int, Field(ge=-100, le=100, strict=True)]


class Asked(Contract):
    """What a person asks; text that cannot be written down is refused."""

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, document: JsonValue) -> JsonValue:
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                "a text holds half of a character (a surrogate without its pair)"
            ) from error
        return document


PairPack = Annotated[bool, Field(strict=True)]
"""Whether a run trains in one process with the baseline that is booked for it."""


class Placed(Asked):
    """Whose run it is, and how it stands to others."""

    name: RunName | None = None
    project: Name | None = None
    """Whose share of the cluster it takes; none: the caller's own, else `default`."""

    priority: Priority = 0
    """The larger goes first, and may have runs of smaller priority make room."""


class PriorityRequest(Asked):
    """Another place in the queue."""

    priority: Priority


class RunRequest(Placed):
    """A run to launch: a preset with changes by dotted field, or a whole spec."""

    preset: Annotated[str | None, Field(examples=["digits/bckd"])] = None
    changes: dict[str, JsonValue] = Field(
        default_factory=dict, examples=[{"distillation.loc_weight": 2.0}]
    )
    spec: dict[str, JsonValue] | None = None
    baseline: BaselineWish = "auto"
    """Whether a taught run is compared with the same student alone, which is booked with it if it
    is not there already; `off`: it is not compared."""

    pack: PairPack = False
    """Whether the run and the baseline that is booked with it train side by side in one process.
    They then start together and take the room of one run; beside a baseline that is there already
    the run trains alone. Refused without a baseline and with several processes."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.preset is None) == (self.spec is None):
            raise ValueError("give either preset or spec")
        if self.spec is not None and self.changes:
            raise ValueError("changes are for presets; put them into spec itself")
        return self


class RepeatRequest(Asked):
    """How many seeds a distilled run and its baseline are to be trained with."""

    seeds: Annotated[int, Field(ge=2, le=32, strict=True, examples=[3])] = 3
    """In all: those that are there already, or under way, count."""

    pack: PairPack | None = None
    """Whether each new run and its new baseline train side by side in one process; none: as the
    run itself was launched."""


class EvaluationRequest(EvaluationSpec, Placed):
    """A detector to measure: a whole spec, and what to call it."""


class ExportRequest(ExportSpec, Placed):
    """A detector to write in formats of others: a whole spec, and what to call it."""


class SweepRequest(Placed):
    """A sweep to launch: a run to search around, as `RunRequest` says it, and how to search.

    Everything but the run is as in `configs.spec.SweepSpec`; what is left out is as there.
    """

    preset: Annotated[str | None, Field(examples=["digits/bckd"])] = None
    changes: dict[str, JsonValue] = Field(default_factory=dict)
    spec: dict[str, JsonValue] | None = None
    """Of the run: its base."""

    space: Annotated[
        dict[str, JsonValue],
        Field(
            examples=[{"distillation.cls_weight": {"kind": "loguniform", "low": 0.1, "high": 10.0}}]
        ),
    ]
    algorithm: dict[str, JsonValue] | None = None
    scheduler: dict[str, JsonValue] | None = None
    objectives: list[JsonValue] | None = None
    first: list[JsonValue] | None = None
    budget: dict[str, JsonValue] | None = None
    concurrency: JsonValue = None
    repeats: JsonValue = None
    pack: JsonValue = None
    baseline: JsonValue = None
    noise_runs: JsonValue = None
    probe: JsonValue = None
    seed: JsonValue = None
    tags: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.preset is None) == (self.spec is None):
            raise ValueError("give either preset or spec")
        if self.spec is not None and self.changes:
            raise ValueError("changes are for presets; put them into spec itself")
        return self


class ExtendRequest(Asked):
    """More for a finished sweep to do."""

    trials: Annotated[int | None, Field(ge=1, le=10_000, strict=True)] = None
    """More of them, beside those that have begun; none: what is left of the old budget."""

    hours: Annotated[float | None, Field(gt=0, le=100_000)] = None
    """From now on; none: without a limit."""

    gpu_hours: Annotated[float | None, Field(gt=0, le=1_000_000)] = None
    space: dict[str, JsonValue] | None = None
    """The whole space with its new bounds."""

    algorithm: dict[str, JsonValue] | None = None


class PromoteRequest(Asked):
    """A trial to be trained as a run of its own."""

    trial: Annotated[int | None, Field(ge=0, lt=2**31, strict=True)] = None
    """None: the best so far."""

    changes: Annotated[dict[str, JsonValue], Field(examples=[{"schedule.epochs": 24}])] = Field(
        default_factory=dict
    )
    name: RunName | None = None
    priority: Priority = 0


class PageQuery(Contract):
    """Which part of a list."""

    cursor: str | None = None
    """The last id of the page before."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50


class RunQuery(PageQuery):
    """Which runs."""

    state: RunState | None = None
    task: Task | None = None
    project: str | None = None
    preset: str | None = None
    tag: Annotated[str, Field(pattern=r"^[^=]+=.*$", description="key=value")] | None = None
    sweep: str | None = None
    """Only runs of this sweep."""

    trial: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Only runs of its trial with this number."""


class SweepQuery(PageQuery):
    """Which sweeps."""

    state: SweepState | None = None
    project: str | None = None


class ReportQuery(Contract):
    """In which form."""

    format: ReportFormat = "html"


class LogQuery(Contract):
    """Which part of a run's log, and whether to wait for more."""

    follow: bool = False
    attempt: Annotated[int | None, Field(ge=1, le=999_999)] = None
    """Only this one; with `follow`, begin with it."""

    offset: Annotated[int, Field(ge=0)] = 0
    """Bytes of the attempt's log to leave out."""

    tail: Annotated[int | None, Field(ge=1, le=10_000)] = None
    """Only so many last lines, over all attempts."""

    search: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """Only lines that contain this, as `attempt:line: text`."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.follow and (self.tail is not None or self.search is not None):
            raise ValueError("follow cannot be joined with tail or search")
        if self.tail is not None and self.search is not None:
            raise ValueError("give either tail or search")
        if self.offset and self.attempt is None:
            raise ValueError("an offset is of one attempt: name it")
        return self


class EventQuery(Contract):
    """Which events."""

    after: Annotated[int, Field(ge=0, lt=2**31)] = 0
    run: str | None = None
    project: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class DatasetRequest(Asked):
    """A dataset's folder to be given a name."""

    root: Annotated[str, Field(min_length=1)]
    name: Name | None = None
    replace: bool = False


class TeacherRequest(Asked):
    """A trained detector to be given a name."""

    name: Name
    checkpoint: Annotated[str, Field(min_length=1)]
    detector: Detector
    classes: ClassNames
    sha256: Sha256 | None = None
    measured_map: Annotated[float, Field(ge=0, le=1)] | None = None
    source: Annotated[str, Field(max_length=2000)] = ""
    replace: bool = False


class ProjectRequest(Asked):
    """How much of the cluster a project's runs may take."""

    weight: Annotated[float, Field(gt=0, le=1000, strict=True)] = 1.0
    max_runs: Annotated[int | None, Field(ge=0, lt=2**31, strict=True)] = None
    max_gpus: Annotated[int | None, Field(ge=0, lt=2**31, strict=True)] = None


class TokenRequest(Asked):
    """Access to be given."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=_PRINTABLE)]
    role: Role = Role.RUNNER
    project: Name | None = None
    """Only runs of this one; none: of all."""

    expires_at: AwareDatetime | None = None


class AuditQuery(Contract):
    """Which part of the audit."""

    before: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
