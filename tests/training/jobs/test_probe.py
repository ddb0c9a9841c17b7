"""A probe on the small digits set: effects of parameters, costs of a step, weights of ratios."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmcv.runner import Hook

from configs.catalog import parse_spec
from configs.derived_specs import baseline_spec, trial_spec
from configs.metric_keys import Metric
from configs.protocol.names import ExitCode, RunFile
from configs.protocol.probe import ParameterEffect, Probe, max_pack_size
from configs.spec.run import RunSpec
from configs.spec.sweep import Values
from tests.support.training.jobs import read_spool, run_job
from tests.support.training.probes import (
    BATCH,
    TRAIN,
    choice,
    make_analyzer,
    make_distilled_spec,
    make_probe_spec,
    uniform,
)
from workers.probe.builder import StudentFactory
from workers.probe.costs import measure_costs
from workers.probe.learning_rates import learning_rates
from workers.probe.teacher_scores import ScoreCache, measure_teacher_scores
from workers.probe.two_steps import fingerprint, trace_two_steps
from workers.probe.unit_losses import detection_loss, measure_unit_losses
from workers.training.hooks.seeding import StepSeedHook
from workers.training.loop import TrainLoop
from workers.training.step import TrainStep


@pytest.fixture(scope="module")
def measured_probe(factory: StudentFactory, base: RunSpec) -> Probe:
    units = measure_unit_losses(factory, base)
    return Probe(
        effects={},
        costs=measure_costs(factory, base),
        detection_loss=units.detection,
        unit_losses=units.by_weight,
    )


Analyze = Callable[[dict[str, Any], str, dict[str, Any]], ParameterEffect]


@pytest.fixture
def analyze(factory: StudentFactory, digits: Path, measured_probe: Probe) -> Analyze:
    """Analyzes the effect of a parameter with a schedule."""

    def analyze_parameter(
        schedule: dict[str, Any], path: str, parameter: dict[str, Any]
    ) -> ParameterEffect:
        spec = make_probe_spec(make_distilled_spec(digits, **schedule), {path: parameter})
        return make_analyzer(factory, spec, measured_probe).analyze(spec.space, path)

    return analyze_parameter


SGD = {"optimizer": {"kind": "sgd", "lr": 0.01}}
STEPS = {"policy": {"kind": "step", "milestones": [1]}}
AT_ONCE = {"warmup": {"iterations": 2, "ratio": 1.0}}


@pytest.mark.parametrize(
    ("schedule", "path", "parameter", "detail"),
    [
        ({}, "student.backbone.width", choice(0.125, 0.25), "the student's shape"),
        ({}, "student.normalize", choice("imagenet", "half"), "the image preprocessing"),
        ({"epochs": 4}, "data.mosaic.probability", uniform(0.5, 1), "the image preprocessing"),
        ({}, "distillation.cls_weight", uniform(0.5, 2), "the losses"),
        ({}, "distillation.loc_weight", uniform(0, 2), "the losses"),
        ({}, "schedule.optimizer.lr", uniform(1e-4, 1e-2), "the first update"),
        ({}, "schedule.optimizer.weight_decay", uniform(0, 0.1), "the first update"),
        ({}, "schedule.max_grad_norm", uniform(0.01, 0.1), "the first update"),
        ({}, "schedule.ema.decay", uniform(0.9, 0.999), "the averaged weights"),
        (SGD, "schedule.optimizer.momentum", uniform(0, 0.9), "a later update"),
        ({}, "schedule.policy.min_lr_ratio", uniform(0, 0.5), "the learning rate of a later"),
        (STEPS, "schedule.policy.gamma", uniform(0.1, 0.5), "the learning rate of a later step"),
        (STEPS, "schedule.epochs", {"kind": "integer", "low": 3, "high": 5}, "the number of"),
    ],
)
def test_a_parameter_is_said_to_move_what_it_moves_first(
    analyze: Analyze, schedule: dict[str, Any], path: str, parameter: dict[str, Any], detail: str
) -> None:
    effect = analyze(schedule, path, parameter)

    assert effect.has_effect
    assert effect.detail.startswith(detail)


@pytest.mark.parametrize(
    ("schedule", "path", "parameter", "reason"),
    [
        ({}, "schedule.max_grad_norm", uniform(1e6, 1e7), "clipping between 1e+06 and 1e+07"),
        (AT_ONCE, "schedule.warmup.iterations", choice(2, 5), "schedule.warmup.ratio is 1"),
        ({}, "schedule.optimizer.weight_decay", uniform(1e-13, 1e-12), "bit for bit"),
    ],
)
def test_a_parameter_that_moves_nothing_is_found_with_its_reason(
    analyze: Analyze, schedule: dict[str, Any], path: str, parameter: dict[str, Any], reason: str
) -> None:
    effect = analyze(schedule, path, parameter)

    assert not effect.has_effect
    assert reason in effect.detail


def test_a_parameter_that_exists_with_another_kind_only_is_traced_with_it(
    factory: StudentFactory, digits: Path, measured_probe: Probe
) -> None:
    spec = make_probe_spec(
        make_distilled_spec(digits),
        {
            "schedule.optimizer.kind": choice("sgd", "adamw"),
            "schedule.optimizer.momentum": uniform(
                0, 0.9, when={"schedule.optimizer.kind": ["sgd"]}
            ),
        },
    )
    effects = make_analyzer(factory, spec, measured_probe)

    kind = effects.analyze(spec.space, "schedule.optimizer.kind")
    momentum = effects.analyze(spec.space, "schedule.optimizer.momentum")

    assert kind.detail == "the first update"
    assert momentum.detail == "a later update"


def test_the_ratio_and_its_balance_move_the_losses(
    factory: StudentFactory, digits: Path, measured_probe: Probe
) -> None:
    spec = make_probe_spec(
        make_distilled_spec(digits), {"ratio": uniform(0.1, 2), "balance": uniform(0.2, 0.8)}
    )
    effects = make_analyzer(factory, spec, measured_probe)

    assert effects.analyze(spec.space, "ratio").detail == "the losses"
    assert effects.analyze(spec.space, "balance").detail == "the losses"


def test_a_ratio_of_a_term_that_is_0_moves_nothing(
    factory: StudentFactory, digits: Path, measured_probe: Probe
) -> None:
    spec = make_probe_spec(make_distilled_spec(digits), {"ratio": uniform(0.1, 2)})
    without_loss = measured_probe.model_copy(
        update={"unit_losses": measured_probe.unit_losses | {"distillation.loc_weight": 0.0}}
    )

    effect = make_analyzer(factory, spec, without_loss).analyze(spec.space, "ratio")

    assert not effect.has_effect
    assert "distillation.loc_weight weights a term that is 0" in effect.detail


def test_weights_of_a_ratio_give_that_ratio_on_the_batch(
    factory: StudentFactory, base: RunSpec, measured_probe: Probe
) -> None:
    values: Values = {"ratio": 0.5, "balance": 0.25}
    spec = trial_spec(base, values, seed=base.seed, probe=measured_probe)

    losses = trace_two_steps(factory, spec).losses

    own = detection_loss(losses)
    assert own == pytest.approx(measured_probe.detection_loss, rel=1e-6)
    assert losses["loss_distill_cls"] / own == pytest.approx(0.125, rel=1e-5)
    assert losses["loss_distill_loc"] / own == pytest.approx(0.375, rel=1e-5)


def test_weights_of_extra_methods_are_measured_too(factory: StudentFactory, digits: Path) -> None:
    method = {"method": "bckd", "loc_weight": 0.0, "extra": {"pkd": {"weight": 6.0}}}
    spec = parse_spec(make_distilled_spec(digits) | {"distillation": method})

    units = measure_unit_losses(factory, spec)

    assert units.by_weight.keys() == {
        "distillation.cls_weight",
        "distillation.loc_weight",
        "distillation.extra.pkd.weight",
    }
    assert all(value > 0 for value in units.by_weight.values())


def test_the_first_step_is_the_one_that_training_takes(
    factory: StudentFactory, base: RunSpec
) -> None:
    runner = factory.runner(base)
    runner.register_lr_hook(dict(factory.config(base).lr_config))
    runner.register_hook(StepSeedHook(seed=base.seed), priority="HIGHEST")
    runner.register_hook(_OneStep())

    with pytest.raises(_StopTraining):
        TrainLoop([runner], factory.loader(base), device=factory.device).run()

    assert fingerprint(runner.model.parameters()) == trace_two_steps(factory, base).first_update


@pytest.mark.parametrize("policy", [{}, STEPS | {"warmup": {"iterations": 4, "ratio": 0.1}}])
def test_learning_rates_are_those_that_training_has(
    factory: StudentFactory, digits: Path, policy: dict[str, Any]
) -> None:
    spec = parse_spec(make_distilled_spec(digits, **policy))
    runner = factory.runner(baseline_spec(spec))
    runner.train_step = _ZeroLossHead()
    runner.register_lr_hook(dict(factory.config(spec).lr_config))
    rates = _Rates()
    runner.register_hook(rates)

    TrainLoop([runner], factory.loader(spec), device=factory.device).run()

    steps = factory.steps_per_epoch(spec)
    assert rates.rates == list(learning_rates(factory.config(spec), steps_per_epoch=steps))


def test_costs_are_of_this_machine(
    factory: StudentFactory, base: RunSpec, measured_probe: Probe
) -> None:
    costs = measured_probe.costs

    assert costs.steps_per_epoch == -(-TRAIN // BATCH)
    assert min(costs.load_s, costs.teacher_s, costs.student_s, costs.evaluation_s) > 0
    assert costs.latency_s is not None
    assert costs.latency_s > 0
    assert 0 < costs.member_bytes < costs.base_bytes < costs.available_bytes
    assert max_pack_size(costs) > 1
    weights = sum(weight.nbytes for weight in factory.runner(base).model.parameters())
    assert 3 * weights <= costs.member_bytes < 3.1 * weights  # and AdamW's two; no gradients


def test_without_a_teacher_there_is_nothing_of_it_to_pay(
    factory: StudentFactory, base: RunSpec
) -> None:
    baseline = baseline_spec(base)

    costs = measure_costs(factory, baseline)

    assert costs.teacher_s == 0
    assert measure_unit_losses(factory, baseline).by_weight == {}
    assert measure_teacher_scores(factory, baseline, None) is None


def test_a_teacher_is_measured_once(factory: StudentFactory, base: RunSpec, tmp_path: Path) -> None:
    teacher = factory.runner(base).model.teacher
    traces: list[None] = []

    def send_request(spec: RunSpec) -> dict[str, float] | None:
        return measure_teacher_scores(
            factory, spec, teacher, cache=ScoreCache(tmp_path), on_batch=lambda: traces.append(None)
        )

    first = send_request(base)
    batches = len(traces)
    repeated = send_request(base)

    assert first is not None
    assert first["bbox_mAP"] > 0.2
    assert repeated == first
    assert len(traces) == batches
    evaluation = base.evaluation.model_copy(update={"val_images": 3})
    send_request(base.model_copy(update={"evaluation": evaluation}))
    assert len(traces) > batches
    batches = len(traces)
    evaluation = base.evaluation.model_copy(update={"max_detections": 1})
    limited_base = base.model_copy(update={"evaluation": evaluation})
    teacher = factory.runner(limited_base).model.teacher
    limited = send_request(limited_base)
    assert len(traces) > batches
    assert limited is not None
    assert limited["bbox_mAP"] < first["bbox_mAP"]


@pytest.mark.slow  # the end-to-end sweep begins with a probe
def test_the_command_writes_what_it_found(digits: Path, tmp_path: Path) -> None:
    space = {
        "distillation.cls_weight": uniform(0.5, 2),
        "schedule.max_grad_norm": uniform(1e6, 1e7),
    }

    code = run_job(
        {"task": "probe", "base": make_distilled_spec(digits), "space": space}, tmp_path / "run"
    )

    assert code == ExitCode.SUCCEEDED
    finding = Probe.model_validate(json.loads((tmp_path / "run" / RunFile.PROBE).read_text()))
    assert {path: effect.has_effect for path, effect in finding.effects.items()} == {
        "distillation.cls_weight": True,
        "schedule.max_grad_norm": False,
    }
    assert finding.unit_losses.keys() == {"distillation.cls_weight", "distillation.loc_weight"}
    spool = read_spool(tmp_path / "run")
    (started,) = [record for record in spool if record["kind"] == "started"]
    assert started["teacher_sha256"] is not None
    (values,) = [record["values"] for record in spool if record["kind"] == "metrics"]
    assert values[Metric.TEACHER_MAP] == finding.teacher_map
    artifacts = {record["path"] for record in spool if record["kind"] == "artifact"}
    assert {RunFile.SPEC, RunFile.ENVIRONMENT, RunFile.PROBE} == artifacts
    steps = [record["step"] for record in spool if record["kind"] == "progress"]
    assert steps == sorted(steps)
    assert spool[-1]["result"] == "succeeded"


class _StopTraining(Exception):
    pass


class _OneStep(Hook):
    def after_train_iter(self, runner: Any) -> None:
        raise _StopTraining


class _Rates(Hook):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def after_train_iter(self, runner: Any) -> None:
        self.rates.append(runner.current_lr()[0])


class _ZeroLossHead(TrainStep):
    def __init__(self) -> None:
        pass

    def step(self, parts: Any, *, number: int) -> dict[str, Any]:
        return {}
