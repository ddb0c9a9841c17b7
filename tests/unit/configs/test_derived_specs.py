"""Specs of trials: which values of a trial reach its run."""

import pytest

from configs.catalog import spec_from_preset
from configs.derived_specs import trial_spec
from configs.spec.detector import MobileNetV2
from configs.spec.distillation import NoDistillation
from configs.spec.run import RunSpec
from configs.spec.sweep import Values

BOTH_OFF: Values = {"distillation.cls_weight": 0.0, "distillation.loc_weight": 0.0}


@pytest.fixture
def base() -> RunSpec:
    return spec_from_preset("digits/bckd")


def test_a_trial_without_weights_is_a_baseline(base: RunSpec) -> None:
    spec = trial_spec(base, BOTH_OFF, seed=3)

    assert (spec.distillation, spec.teacher, spec.seed) == (NoDistillation(), None, 3)


def test_a_baseline_trial_keeps_its_other_values(base: RunSpec) -> None:
    values: Values = {
        **BOTH_OFF,
        "schedule.optimizer.lr": 0.004,
        "student.backbone.kind": "mobilenet_v2",
        "student.backbone.width": 0.5,
    }

    spec = trial_spec(base, values, seed=0)

    assert spec.schedule.optimizer.lr == 0.004
    assert spec.student.backbone == MobileNetV2(kind="mobilenet_v2", width=0.5)
    assert spec.teacher is None
