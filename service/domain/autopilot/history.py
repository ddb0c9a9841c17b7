"""The history of an autopilot: its decisions in order, and what came of its runs."""

from typing import Annotated, Literal

from pydantic import Field

from configs.spec.base import Contract, Name
from configs.spec.sweep import Values
from service.domain.autopilot.request import Seconds

AutopilotStage = Literal["teacher", "learning_rate", "noise_floor", "screening", "confirmation"]

AUTOPILOT_STAGES: tuple[AutopilotStage, ...] = (
    "teacher",
    "learning_rate",
    "noise_floor",
    "screening",
    "confirmation",
)
"""In their order."""

ArmRole = Literal["teacher", "baseline", "distilled"]

StageResult = Literal[
    "passed",
    "out_of_budget",
    "no_teacher",
    "no_student",
    "weak_teacher",
    "nothing_screened",
    "gain_confirmed",
    "no_gain_confirmed",
]
"""`passed` if another stage follows; the others end the autopilot."""


class Arm(Contract):
    """What runs of a stage that differ in their seed alone have in common."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    role: ArmRole
    student: Name | None = None
    """The name of the student's option. None for a teacher."""

    teacher: Name | None = None
    """The teacher of a distilled run, or the detector that is measured. None for a baseline."""

    values: Values = Field(default_factory=dict)
    """Fields of the run's spec."""


class RunLaunch(Contract):
    """A run to launch, or one that was stopped for the budget and continues."""

    kind: Literal["launch"] = "launch"
    key: str
    """Unique in the history, and equal whenever the same decision is made again."""

    stage: AutopilotStage
    arm: Arm
    seed: Annotated[int, Field(ge=0)]
    epochs: Annotated[int, Field(ge=0)]
    """0 for a teacher that is only measured."""

    planned_s: Seconds
    continues: str | None = None
    """The key of the stopped run that it continues from the last checkpoint. None for a new one."""


class RunStop(Contract):
    """A run to stop; its best checkpoint stays."""

    kind: Literal["stop"] = "stop"
    key: str
    reason: Literal["screened_out", "out_of_budget", "canceled"]
    message: str


class StageEnd(Contract):
    """The end of a stage."""

    kind: Literal["stage_end"] = "stage_end"
    stage: AutopilotStage
    result: StageResult
    selected: tuple[str, ...] = ()
    """Names of arms: the teacher, the setting of the student, the finalists, the winner."""

    message: str


class BudgetExtension(Contract):
    """A person grants more; an autopilot that ran out of budget goes on where it was."""

    kind: Literal["extension"] = "extension"
    budget_s: Seconds


class DeadlineReached(Contract):
    """The budget's hours by the clock are over, until it is extended."""

    kind: Literal["deadline"] = "deadline"


class AutopilotCancellation(Contract):
    """A person ends the autopilot."""

    kind: Literal["cancellation"] = "cancellation"


class ConfirmedGain(Contract):
    """A gain in mAP over the baseline, from the seeds of the confirmation alone."""

    pairs: Annotated[int, Field(ge=1)]
    mean: float
    low: float | None
    """The gain is above it. Bounds that do not hold are at most 5 % of autopilots, over all arms
    and however often the data were examined. None with too few pairs."""


class Conclusion(Contract):
    """The end of an autopilot."""

    kind: Literal["conclusion"] = "conclusion"
    result: StageResult | Literal["canceled"]
    arm: str | None
    """Delivered: the winner, or `BASELINE`. None if no student was trained."""

    run: str | None
    """The key of the run whose best checkpoint is delivered."""

    gains: dict[str, ConfirmedGain] = Field(default_factory=dict)
    """By arm, of all that were confirmed on two seeds or more."""

    message: str

    @property
    def claims_gain(self) -> bool:
        """Whether it states that distillation helps."""
        return self.result == "gain_confirmed"


Decision = RunLaunch | RunStop | StageEnd | Conclusion

AutopilotEntry = Annotated[
    RunLaunch
    | RunStop
    | StageEnd
    | Conclusion
    | BudgetExtension
    | DeadlineReached
    | AutopilotCancellation,
    Field(discriminator="kind"),
]


class RunOutcome(Contract):
    """What is known of a run so far."""

    key: str
    state: Literal["queued", "running", "succeeded", "failed", "stopped"]
    spent_s: Seconds = 0.0
    """In a pack, the run's share of the job."""

    maps: dict[int, float] = Field(default_factory=dict)
    """mAP, from 0 to 1, by epoch; of a teacher that is only measured, at epoch 0."""


class AutopilotHistory(Contract):
    """All that is stored of an autopilot besides its request."""

    entries: tuple[AutopilotEntry, ...] = ()
    outcomes: tuple[RunOutcome, ...] = ()
    """The newest one of each run, in any order."""
