"""A probe, on one page: a run and a space -> which parameters move anything, what a step costs."""

import logging
from pathlib import Path

from configs.derived_specs import trial_spec
from configs.protocol.names import ExitCode, RunFile
from configs.protocol.probe import Knob, Probe
from configs.spec.jobs import ProbeSpec
from configs.spec.run import RunSpec
from configs.spec.search import RATIO
from workers.attempt.lifecycle import Desk, attempt
from workers.data.resolve import dataset_of
from workers.distillation.teacher import Teacher, shared_teachers
from workers.machine.environment import whereabouts, write_environment
from workers.probe.builder import Bench
from workers.probe.candidates import candidates, setting
from workers.probe.costs import measure_costs
from workers.probe.effects import Knobs
from workers.probe.teacher_scores import ScoreCache, teacher_scores
from workers.probe.unit_losses import measure_units
from workers.process.device import prepare_device
from workers.telemetry.heartbeat import STALL_AFTER_S
from workers.telemetry.identity import Identity

_BEFORE_KNOBS = 3
"""Things that are measured: losses, costs, the teacher."""

log = logging.getLogger(__name__)


def probe(
    spec: ProbeSpec,
    *,
    identity: Identity,
    run_dir: Path,
    cache: Path | None = None,
    stall_after_s: float = STALL_AFTER_S,
) -> ExitCode:
    """Look at a sweep's base and parameters; every end is reported, none is raised.

    `cache` is a folder for the mAP of teachers, so that each is measured once; none: each time.
    """

    def work(desk: Desk) -> None:
        with shared_teachers():
            _probe(spec, desk, None if cache is None else ScoreCache(cache))

    return attempt(
        spec,
        work,
        identity=identity,
        run_dir=run_dir,
        stall_after_s=stall_after_s,
    )


def _probe(spec: ProbeSpec, desk: Desk, cache: ScoreCache | None) -> None:
    dataset = dataset_of(spec.base)
    device = prepare_device(spec.resources, spec.base.compute)
    bench = Bench(dataset=dataset, run_dir=desk.run_dir, device=device)
    teacher: Teacher | None = bench.runner(spec.base).model.teacher
    _say_started(bench, teacher, desk)
    total = _BEFORE_KNOBS + len(spec.space)
    desk.progress(done=0, total=total)
    costs = measure_costs(bench, spec.base, on_part=desk.leave_if_unwanted)
    desk.progress(done=1, total=total)
    units = measure_units(bench, _measured_for_ratio(spec))
    desk.progress(done=2, total=total)
    mean_ap = _teacher_map(bench, spec.base, teacher, desk, cache)
    found = Probe(
        knobs={},
        costs=costs,
        detection_loss=units.detection,
        unit_losses=units.by_weight,
        teacher_map=mean_ap,
    )
    whole = found.model_copy(update={"knobs": _knobs(bench, spec, found, desk)})
    desk.write(RunFile.PROBE, whole.model_dump_json(indent=2) + "\n")


def _knobs(bench: Bench, spec: ProbeSpec, found: Probe, desk: Desk) -> dict[str, Knob]:
    total = _BEFORE_KNOBS + len(spec.space)
    knobs = Knobs(bench, base=spec.base, probe=found, on_look=desk.leave_if_unwanted)
    by_path: dict[str, Knob] = {}
    for path in spec.space:
        desk.progress(done=_BEFORE_KNOBS + len(by_path), total=total)
        by_path[path] = knobs.of(spec.space, path)
        log.info("%s: %s.", path, by_path[path].what)
    desk.progress(done=total, total=total, is_last=True)
    return by_path


def _say_started(bench: Bench, teacher: Teacher | None, desk: Desk) -> None:
    desk.reporter.started(
        whereabouts(bench.device),
        resumed_from_epoch=0,
        teacher_sha256=None if teacher is None else teacher.sha256,
        dataset=bench.dataset.manifest,
    )
    write_environment(desk.run_dir / RunFile.ENVIRONMENT, device=bench.device)
    for file in (RunFile.SPEC, RunFile.ENVIRONMENT):
        desk.reporter.artifact(file)


def _teacher_map(
    bench: Bench, base: RunSpec, teacher: Teacher | None, desk: Desk, cache: ScoreCache | None
) -> float | None:
    scores = teacher_scores(bench, base, teacher, cache=cache, on_batch=desk.leave_if_unwanted)
    if scores is None:
        return None
    values = {f"teacher/{name}": value for name, value in scores.items()}
    desk.reporter.metrics(step=0, values=values)
    return scores["bbox_mAP"]


def _measured_for_ratio(spec: ProbeSpec) -> RunSpec:
    """The base, of the method with which `ratio` exists."""
    if RATIO not in spec.space:
        return spec.base
    values = setting(spec.space, RATIO, candidates(spec.space[RATIO])[0], base=spec.base)
    del values[RATIO]
    return trial_spec(spec.base, values, seed=spec.base.seed)
