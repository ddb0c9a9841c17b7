"""Worlds of a simulated trainer: learning curves, seeds and gains that are known."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from configs.protocol.probe import Costs
from service.domain.autopilot.baseline import LEARNING_RATE
from service.domain.autopilot.history import Arm
from service.domain.autopilot.request import (
    AutopilotRequest,
    MethodOption,
    StudentOption,
    TeacherOption,
)

METHODS: Mapping[str, tuple[str, float]] = {
    "bckd": ("distillation.cls_weight", 1.0),
    "crosskd": ("distillation.cls_weight", 1.0),
    "pkd": ("distillation.weight", 6.0),
    "ld": ("distillation.main_weight", 0.25),
    "dist": ("distillation.inter_weight", 1.0),
    "cwd": ("distillation.weight", 10.0),
}
"""The weight of each method that is varied, with its published value."""

FACTORS = (1.0, 0.25, 4.0)
"""Of the published weight; published values come first, for all methods."""

EPOCHS = 12
_SATURATION = [
    (1.0 - math.exp(-4.0 * epoch / EPOCHS)) / (1.0 - math.exp(-4.0)) for epoch in range(EPOCHS + 1)
]
"""The share of the final mAP after each epoch."""

_PRESET_RATE = 0.01
_TEACHER_MAP = 0.55


@dataclass(frozen=True)
class World:
    """What training gives; mAP in points of 100."""

    number: int
    """Seeds the draws of runs."""

    baseline: float
    """Final mAP of the student alone with the best learning rate."""

    deviation: float
    """Of the final mAP over seeds."""

    correlation: float
    """Of two arms with the same seed, over seeds."""

    best_octave: float
    """Of the learning rate, relative to that of the preset."""

    curvature: float
    """mAP lost per squared octave of the learning rate."""

    gains: Mapping[str, float]
    """Of each method with its weight, at the end."""

    leads: Mapping[str, float]
    """Additional gain at the start of the training, which shrinks to 0."""

    is_heavy_tailed: bool = False
    """Whether every tenth run has three times the deviation."""

    @cached_property
    def best_gain(self) -> float:
        """Of the best method; 0 if none is above the student alone."""
        return max(0.0, *self.gains.values())

    def gain_of(self, arm: str | None) -> float:
        """The true gain of what is delivered; 0 for the student alone."""
        return 0.0 if arm is None else self.gains.get(arm, 0.0)

    def handicap(self, values: Mapping[str, object]) -> float:
        """mAP lost by the learning rate of a run."""
        rate = float(str(values[LEARNING_RATE]))
        return self.curvature * (math.log2(rate / _PRESET_RATE) - self.best_octave) ** 2

    def curve(self, arm: Arm, seed: int) -> dict[int, float]:
        """mAP, from 0 to 1, after each epoch: a saturating curve, the seed's effect and jitter."""
        if arm.role == "teacher":
            return {0: _TEACHER_MAP}
        final = self.baseline - self.handicap(arm.values) + self._draw(arm, seed)
        final += self.gain_of(arm.name)
        lead = self.leads.get(arm.name, 0.0)
        jitter = random.Random(f"{self.number}/jitter/{arm.name}/{seed}")
        maps = {}
        for epoch in range(1, EPOCHS + 1):
            progress = epoch / EPOCHS
            noise = jitter.gauss(0.0, 0.5 * self.deviation * (1.0 - progress))
            value = (final + noise) * _SATURATION[epoch] + lead * (1.0 - progress)
            maps[epoch] = min(1.0, max(0.0, value / 100.0))
        return maps

    def _draw(self, arm: Arm, seed: int) -> float:
        """The seed's effect; arms with one seed share a part of it."""
        shared = random.Random(f"{self.number}/{seed}").gauss(0.0, 1.0)
        generator = random.Random(f"{self.number}/{arm.name}/{seed}")
        own = generator.gauss(0.0, 1.0)
        if self.is_heavy_tailed and generator.random() < 0.1:
            own *= 3.0
        root = math.sqrt(self.correlation)
        return self.deviation * (root * shared + math.sqrt(1.0 - self.correlation) * own)


def draw_world(number: int, *, has_gains: bool = True, is_heavy_tailed: bool = False) -> World:
    """A world of realistic magnitudes. Without gains, no method is better than the student alone,
    and each equals it, which is where false claims are most likely."""
    generator = random.Random(f"world/{number}")
    gains = dict.fromkeys(arm_names(), 0.0)
    if has_gains:
        for method in METHODS:
            best = generator.uniform(-1.0, 3.0)
            optimum = generator.gauss(0.0, 1.0)
            steepness = generator.uniform(0.05, 0.3)
            for factor in FACTORS:
                distance = math.log2(factor) - optimum
                gains[arm_name(method, factor)] = best - steepness * distance**2
    return World(
        number=number,
        baseline=generator.uniform(30.0, 45.0),
        deviation=math.exp(generator.uniform(math.log(0.3), math.log(2.0))),
        correlation=generator.uniform(0.0, 0.6),
        best_octave=generator.gauss(0.0, 1.0),
        curvature=generator.uniform(0.3, 1.5),
        gains=gains,
        leads={name: max(0.0, generator.gauss(2.0, 1.5)) for name in gains},
        is_heavy_tailed=is_heavy_tailed,
    )


def arm_name(method: str, factor: float) -> str:
    return f"{method}-{METHODS[method][1] * factor:g}"


def arm_names() -> list[str]:
    """All methods with their weights, published ones first."""
    return [arm_name(method, factor) for factor in FACTORS for method in METHODS]


def make_costs(**changes: float) -> Costs:
    """Costs with a teacher that is as expensive as a student's step; an epoch alone is 110 s."""
    values: dict[str, object] = {
        "load_s": 0.1,
        "teacher_s": 1.0,
        "student_s": 1.0,
        "evaluation_s": 5.0,
        "steps_per_epoch": 100,
        "base_bytes": 1000,
        "member_bytes": 100,
        "available_bytes": 10_000,
        "device": "cpu",
    }
    return Costs.model_validate(values | changes)


def make_request(**changes: object) -> AutopilotRequest:
    """A request with all methods, in packs of 8."""
    methods = [
        MethodOption(
            name=arm_name(method, factor),
            values={
                "distillation.method": method,
                METHODS[method][0]: METHODS[method][1] * factor,
            },
        )
        for factor in FACTORS
        for method in METHODS
    ]
    values: dict[str, object] = {
        "teachers": [TeacherOption(name="big", cost_s=60.0)],
        "students": [StudentOption(name="small", values={}, costs=make_costs())],
        "methods": methods,
        "learning_rate": _PRESET_RATE,
        "epochs": EPOCHS,
        "budget_s": 40 * run_cost_s(),
        "pack_size": 8,
    }
    return AutopilotRequest.model_validate(values | changes)


def run_cost_s() -> float:
    """Device seconds of the student alone with the full schedule: the unit of budgets in tests."""
    costs = make_costs()
    return EPOCHS * (costs.steps_per_epoch * (costs.load_s + costs.student_s) + costs.evaluation_s)
