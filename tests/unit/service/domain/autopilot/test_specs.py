"""Runs of an autopilot as specs that a trainer takes."""

import pytest

from configs.catalog import parse_spec
from configs.derived_specs import is_distilled, pack_key
from configs.spec.detector import AtssHead
from configs.spec.references import NamedTeacher
from service.domain.autopilot.history import RunLaunch
from service.domain.autopilot.request import MethodOption
from service.domain.autopilot.specs import build_run_spec, list_method_options
from tests.support.autopilot.trainer import SimulatedTrainer, run_autopilot
from tests.support.autopilot.worlds import draw_world, make_request
from tests.support.factories import make_bckd_spec, make_detector_spec, make_spec

BASE = parse_spec(make_spec(schedule={"epochs": 12}))


def test_every_run_of_an_autopilot_has_a_valid_spec() -> None:
    choice = list_method_options(BASE, teacher="big", detector=make_detector_spec())
    request = make_request(methods=choice.options)
    trainer = SimulatedTrainer(draw_world(3), request)
    run_autopilot(trainer)
    launches = [launch for launch in trainer.launches.values() if launch.epochs]

    specs = {launch.key: build_run_spec(BASE, request, launch) for launch in launches}

    for launch in launches:
        spec = specs[launch.key]
        assert spec.seed == launch.seed
        assert spec.schedule.epochs == 12
        assert is_distilled(spec) == (launch.arm.role == "distilled")
        assert spec.teacher == (NamedTeacher(name="big") if is_distilled(spec) else None)
    packs = {
        stage: {pack_key(specs[run.key]) for run in launches if run.stage == stage}
        for stage in ("learning_rate", "screening")
    }
    assert {stage: len(keys) for stage, keys in packs.items()} == {
        "learning_rate": 1,
        "screening": 1,
    }


def test_published_weights_come_first() -> None:
    options = list_method_options(BASE, teacher="big", detector=make_detector_spec()).options

    names = [option.name for option in options]
    assert names[:3] == ["bckd", "logit_kd", "ld"]
    assert {"bckd-x0.25", "bckd-x4"} <= set(names[8:])
    by_name = {option.name: option.values for option in options}
    assert by_name["bckd-x4"] == {
        "distillation.method": "bckd",
        "distillation.cls_weight": 4.0,
        "distillation.loc_weight": 16.0,
    }
    assert by_name["ld"] == {"distillation.method": "ld", "distillation.main_weight": 0.25}


def test_methods_that_do_not_fit_the_detectors_are_refused_with_the_reason() -> None:
    detector = make_detector_spec().model_copy(update={"head": AtssHead(kind="atss")})

    choice = list_method_options(BASE, teacher="big", detector=detector)

    assert "ld" in choice.refused
    assert "crosskd" in choice.refused
    assert {option.name for option in choice.options}.isdisjoint(choice.refused)
    assert "bckd" in {option.name for option in choice.options}


def test_a_distilled_base_loses_its_own_method() -> None:
    base = parse_spec(make_bckd_spec(schedule={"epochs": 12}))
    request = make_request(
        methods=[MethodOption(name="pkd", values={"distillation.method": "pkd"})]
    )
    trainer = SimulatedTrainer(draw_world(3), request)
    run_autopilot(trainer)

    methods = {
        launch.arm.role: build_run_spec(base, request, launch).distillation.method
        for launch in trainer.launches.values()
        if launch.epochs
    }

    assert methods == {"baseline": "none", "distilled": "pkd"}


def test_a_measurement_of_a_teacher_is_no_training() -> None:
    request = make_request()
    trainer = SimulatedTrainer(draw_world(3), request)
    history = run_autopilot(trainer)
    launch = history.entries[0]
    assert isinstance(launch, RunLaunch)

    with pytest.raises(ValueError, match="measures a teacher"):
        build_run_spec(BASE, request, launch)
