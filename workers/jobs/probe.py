"""The probe job: which parameters of a sweep have an effect, and what a training step costs."""

import logging
from pathlib import Path

from configs.derived_specs import trial_spec
from configs.protocol.names import ExitCode, RunFile
from configs.protocol.probe import ParameterEffect, Probe
from configs.spec.jobs import ProbeSpec
from configs.spec.run import RunSpec
from configs.spec.search import RATIO
from workers.attempt.lifecycle import JobContext, run_job
from workers.data.resolve import resolve_run_dataset
from workers.distillation.teacher import Teacher, share_teachers
from workers.machine.environment import get_process_info, write_environment
from workers.probe.builder import StudentFactory
from workers.probe.candidates import candidate_values, values_with_parents
from workers.probe.costs import measure_costs
from workers.probe.effects import EffectAnalyzer
from workers.probe.teacher_scores import ScoreCache, measure_teacher_scores
from workers.probe.unit_losses import measure_unit_losses
from workers.probe.weights import describe_start_weight, measure_start_weights
from workers.process.device import prepare_device
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S
from workers.telemetry.identity import AttemptIdentity

_NUM_FIXED_STEPS = 3
"""Steps of progress before the parameters: costs, unit losses, teacher."""

log = logging.getLogger(__name__)


def probe(
    spec: ProbeSpec,
    *,
    identity: AttemptIdentity,
    run_dir: Path,
    cache: Path | None = None,
    stall_timeout_s: float = DEFAULT_STALL_TIMEOUT_S,
) -> ExitCode:
    """Probe a sweep's base and parameters; errors are reported and returned as exit code.

    `cache` is a folder for the metrics of teachers, so that each is evaluated once. If it is None,
    the teacher is evaluated each time.
    """

    def work(ctx: JobContext) -> None:
        with share_teachers():
            _probe(spec, ctx, None if cache is None else ScoreCache(cache))

    return run_job(
        spec,
        work,
        identity=identity,
        run_dir=run_dir,
        stall_timeout_s=stall_timeout_s,
    )


def _probe(spec: ProbeSpec, ctx: JobContext, cache: ScoreCache | None) -> None:
    dataset = resolve_run_dataset(spec.base)
    device = prepare_device(spec.resources, spec.base.compute)
    factory = StudentFactory(dataset=dataset, run_dir=ctx.run_dir, device=device)
    teacher: Teacher | None = factory.runner(spec.base).model.teacher
    _report_start(factory, teacher, ctx)
    total = _NUM_FIXED_STEPS + len(spec.space)
    ctx.report_progress(done=0, total=total)
    costs = measure_costs(factory, spec.base, on_progress=ctx.raise_if_stopped)
    ctx.report_progress(done=1, total=total)
    units = measure_unit_losses(factory, _spec_for_unit_losses(spec))
    weights = measure_start_weights(factory, spec.base)
    for field, start in weights.items():
        log.info(describe_start_weight(field, start))
    ctx.report_progress(done=2, total=total)
    mean_ap = _measure_teacher_map(factory, spec.base, teacher, ctx, cache)
    without_effects = Probe(
        effects={},
        costs=costs,
        detection_loss=units.detection,
        unit_losses=units.by_weight,
        weights=weights,
        teacher_map=mean_ap,
    )
    effects = _measure_effects(factory, spec, without_effects, ctx)
    probe = without_effects.model_copy(update={"effects": effects})
    ctx.write_artifact(RunFile.PROBE, probe.model_dump_json(indent=2) + "\n")


def _measure_effects(
    factory: StudentFactory, spec: ProbeSpec, probe: Probe, ctx: JobContext
) -> dict[str, ParameterEffect]:
    total = _NUM_FIXED_STEPS + len(spec.space)
    analyzer = EffectAnalyzer(factory, base=spec.base, probe=probe, on_trace=ctx.raise_if_stopped)
    effects: dict[str, ParameterEffect] = {}
    for path in spec.space:
        ctx.report_progress(done=_NUM_FIXED_STEPS + len(effects), total=total)
        effects[path] = analyzer.analyze(spec.space, path)
        log.info("%s: %s.", path, effects[path].detail)
    ctx.report_progress(done=total, total=total, is_last=True)
    return effects


def _report_start(factory: StudentFactory, teacher: Teacher | None, ctx: JobContext) -> None:
    ctx.reporter.report_start(
        get_process_info(factory.device),
        resumed_from_epoch=0,
        teacher_sha256=None if teacher is None else teacher.sha256,
        dataset=factory.dataset.manifest,
    )
    write_environment(ctx.run_dir / RunFile.ENVIRONMENT, device=factory.device)
    for file in (RunFile.SPEC, RunFile.ENVIRONMENT):
        ctx.reporter.report_artifact(file)


def _measure_teacher_map(
    factory: StudentFactory,
    base: RunSpec,
    teacher: Teacher | None,
    ctx: JobContext,
    cache: ScoreCache | None,
) -> float | None:
    scores = measure_teacher_scores(
        factory, base, teacher, cache=cache, on_batch=ctx.raise_if_stopped
    )
    if scores is None:
        return None
    values = {f"teacher/{name}": value for name, value in scores.items()}
    ctx.reporter.report_metrics(step=0, values=values)
    return scores["bbox_mAP"]


def _spec_for_unit_losses(spec: ProbeSpec) -> RunSpec:
    """The base spec; with the method that `ratio` belongs to, if the space has `ratio`."""
    if RATIO not in spec.space:
        return spec.base
    values = values_with_parents(
        spec.space, RATIO, candidate_values(spec.space[RATIO])[0], base=spec.base
    )
    del values[RATIO]
    return trial_spec(spec.base, values, seed=spec.base.seed)
