"""A probe, on one page: a run and a space -> which parameters move anything, what a step costs."""

import logging
from pathlib import Path

from configs.spec import (
    RATIO,
    ExitCode,
    Knob,
    NamedTeacher,
    Probe,
    ProbeSpec,
    RunFile,
    RunSpec,
    RunTeacher,
)
from configs.variants import trial_spec
from workers.attempt import Desk, attempt
from workers.errors import InvalidSpec
from workers.inference import device_for, place_of
from workers.probe.bench import Bench
from workers.probe.costs import measure_costs
from workers.probe.knobs import Knobs
from workers.probe.settings import candidates, setting
from workers.probe.teacher_scores import ScoreCache, teacher_scores
from workers.probe.units import measure_units
from workers.provenance import whereabouts, write_environment
from workers.pulse import STALL_AFTER_S
from workers.reporting.identity import Identity

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
    return attempt(
        spec,
        lambda desk: _probe(spec, desk, None if cache is None else ScoreCache(cache)),
        identity=identity,
        run_dir=run_dir,
        stall_after_s=stall_after_s,
    )


def _probe(spec: ProbeSpec, desk: Desk, cache: ScoreCache | None) -> None:
    bench = _prepare(spec, desk)
    _say_started(bench, spec.base, desk)
    total = _BEFORE_KNOBS + len(spec.space)
    found = _found(bench, spec, desk, cache=cache, total=total)
    knobs = Knobs(bench, base=spec.base, probe=found, on_look=desk.leave_if_unwanted)
    by_path: dict[str, Knob] = {}
    for path in spec.space:
        by_path[path] = knobs.of(spec.space, path)
        log.info("%s: %s.", path, by_path[path].what)
        desk.progress(done=_BEFORE_KNOBS + len(by_path), total=total)
    whole = found.model_copy(update={"knobs": by_path})
    desk.write(RunFile.PROBE, whole.model_dump_json(indent=2) + "\n")


def _prepare(spec: ProbeSpec, desk: Desk) -> Bench:
    if isinstance(spec.base.teacher, NamedTeacher | RunTeacher):
        raise InvalidSpec(
            "base.teacher is a name, which the service resolves; give base.teacher.checkpoint."
        )
    dataset = place_of(spec.base.data.dataset)
    return Bench(dataset=dataset, run_dir=desk.run_dir, device=device_for(spec.resources))


def _say_started(bench: Bench, base: RunSpec, desk: Desk) -> None:
    bench.runner(base)  # invites the teacher, or says why it cannot come
    desk.reporter.started(
        whereabouts(bench.device),
        resumed_from_epoch=0,
        teacher_sha256=None if bench.teacher is None else bench.teacher.sha256,
        dataset=bench.dataset.manifest,
    )
    write_environment(desk.run_dir / RunFile.ENVIRONMENT, device=bench.device)
    for file in (RunFile.SPEC, RunFile.ENVIRONMENT):
        desk.reporter.artifact(file)


def _found(
    bench: Bench, spec: ProbeSpec, desk: Desk, *, cache: ScoreCache | None, total: int
) -> Probe:
    """All but the knobs."""
    desk.progress(done=0, total=total)
    costs = measure_costs(bench, spec.base, on_part=desk.leave_if_unwanted)
    desk.progress(done=1, total=total)
    units = measure_units(bench, _measured_for_ratio(spec))
    desk.progress(done=2, total=total)
    scores = teacher_scores(bench, spec.base, cache=cache, on_batch=desk.leave_if_unwanted)
    if scores is not None:
        values = {f"teacher/{name}": value for name, value in scores.items()}
        desk.reporter.metrics(step=0, values=values)
    return Probe(
        knobs={},
        costs=costs,
        detection_loss=units.detection,
        unit_losses=units.by_weight,
        teacher_map=None if scores is None else scores["bbox_mAP"],
    )


def _measured_for_ratio(spec: ProbeSpec) -> RunSpec:
    """The base, of the method with which `ratio` exists."""
    if RATIO not in spec.space:
        return spec.base
    values = setting(spec.space, RATIO, candidates(spec.space[RATIO])[0], base=spec.base)
    del values[RATIO]
    return trial_spec(spec.base, values, seed=spec.base.seed)
