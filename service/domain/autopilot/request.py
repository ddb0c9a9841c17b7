"""What an autopilot may choose from, and what it may spend."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from configs.protocol.probe import Costs
from configs.spec.base import Contract, Fraction, Name
from configs.spec.sweep import Values

BASELINE = "student-only"
"""The name of the arm without a teacher."""

MAX_FINALISTS = 3

Seconds = Annotated[float, Field(ge=0.0)]
"""Device seconds: those of all jobs are added up, also of jobs that ran at the same time."""


class TeacherOption(Contract):
    """A detector that may teach."""

    name: Name
    cost_s: Seconds
    """To measure it on the validation images; with `values`, to train it first."""

    values: Values = Field(default_factory=dict)
    """Fields of the run that trains it. Empty for a detector that is trained already."""


class StudentOption(Contract):
    """A detector that may be distilled, with the costs of its probe."""

    name: Name
    values: Values
    costs: Costs


class MethodOption(Contract):
    """A distillation method with weights, as fields of a distilled run."""

    name: Name
    values: Annotated[Values, Field(min_length=1)]


class AutopilotRequest(Contract):
    """All that an autopilot's decisions depend on, apart from its history."""

    teachers: Annotated[tuple[TeacherOption, ...], Field(min_length=1)]
    students: Annotated[tuple[StudentOption, ...], Field(min_length=1)]
    methods: Annotated[tuple[MethodOption, ...], Field(min_length=1)]
    """In the order in which a small budget takes them."""

    learning_rate: Annotated[float, Field(gt=0.0)]
    """The search for the baseline's learning rate begins around it."""

    schedules: tuple[Values, ...] = ()
    """Fields of other schedules of the same number of epochs, tried with the best learning rate."""

    epochs: Annotated[int, Field(ge=1)]
    """The full schedule. What is claimed holds for it: an early lead overstates the end."""

    every_epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs between two evaluations."""

    budget_s: Seconds
    start_s: Seconds = 0.0
    """From the submission of a job to its first step."""

    pack_size: Annotated[int, Field(ge=1)] = 1
    """How many students with the same batches train with one teacher."""

    first_seed: Annotated[int, Field(ge=0)] = 0
    """Each stage takes the next ones that no earlier stage has used."""

    finalists: Annotated[int, Field(ge=1, le=MAX_FINALISTS)] = MAX_FINALISTS
    """How many distilled arms are confirmed at most; fewer if the budget pays for few seeds."""

    screening_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """The share of the budget that screening may take at most."""

    min_gain: Fraction = 0.003
    """Smaller gains in mAP are not worth a further seed."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for field in ("teachers", "students", "methods"):
            names = [option.name for option in getattr(self, field)]
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{field}: give each name only once, got {', '.join(repeated)}")
        if BASELINE in {option.name for option in self.methods}:
            raise ValueError(f"methods: {BASELINE} names the student without a teacher")
        return self
