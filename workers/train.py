"""One attempt of a run, on one page: spec -> config -> mmcv's runner -> outcome."""

import json
import logging
from pathlib import Path
from typing import Any

from mmcv import Config
from mmcv.parallel import MMDataParallel

from configs.spec import DatasetFiles, ExitCode, NamedTeacher, RunFile, RunSpec, RunTeacher
from workers.data.manifest import check_dataset
from workers.distillation.detector import TandemGFL
from workers.errors import InvalidSpec, StopRequested, Superseded
from workers.evaluation import Scores, evaluate
from workers.failures import exit_code_of, reason_of
from workers.hooks.checkpoints import CheckpointsHook
from workers.hooks.control import Termination, leave_if_unwanted
from workers.hooks.evaluation import say_scores
from workers.provenance import whereabouts, write_environment
from workers.recipe import DatasetPlace, config_from_spec
from workers.reporting.reporter import Identity, Reporter
from workers.showcase import write_pictures
from workers.workbench import Workbench, build_workbench

log = logging.getLogger(__name__)


def train(spec: RunSpec, *, identity: Identity, run_dir: Path) -> ExitCode:
    """Train until the run ends or this attempt does; every end is reported, none is raised."""
    termination = Termination()
    termination.install()
    with Reporter.open(run_dir, identity=identity, spec=spec) as reporter:
        try:
            best = _train(spec, run_dir=run_dir, reporter=reporter, termination=termination)
        except Superseded as error:
            log.warning("%s", error)
            return ExitCode.FENCED
        except StopRequested as error:
            reporter.outcome("cancelled", message=str(error))
            return ExitCode.CANCELLED
        except Exception as error:
            reason = reason_of(error)
            log.exception("The attempt failed: %s", reason)
            reporter.outcome("failed", reason=reason, message=f"{type(error).__name__}: {error}")
            return exit_code_of(reason)
        reporter.outcome("succeeded", best_map=best.best_map, best_epoch=best.best_epoch)
        return ExitCode.SUCCEEDED


def _train(
    spec: RunSpec, *, run_dir: Path, reporter: Reporter, termination: Termination
) -> CheckpointsHook:
    dataset = _dataset_of(spec)
    config = config_from_spec(spec, dataset=dataset, run_dir=run_dir)
    bench = build_workbench(
        config, spec=spec, run_dir=run_dir, reporter=reporter, termination=termination
    )
    _say_started(bench, dataset=dataset, config=config, run_dir=run_dir, reporter=reporter)
    teacher = _measure_teacher(bench, reporter=reporter, termination=termination)
    bench.runner.run([bench.training], [("train", 1)])
    _write_results(bench, teacher, spec=spec, run_dir=run_dir, reporter=reporter)
    return bench.checkpoints


def _dataset_of(spec: RunSpec) -> DatasetPlace:
    """The dataset as files; names are for the service."""
    if isinstance(spec.teacher, NamedTeacher | RunTeacher):
        raise InvalidSpec("teacher is a name, which the service resolves; give teacher.checkpoint.")
    if not isinstance(spec.data.dataset, DatasetFiles):
        raise InvalidSpec(
            "data.dataset is a name, which the service resolves; give data.dataset.root."
        )
    root = Path(spec.data.dataset.root)
    return DatasetPlace(root, check_dataset(root, digest=spec.data.dataset.digest))


def _say_started(
    bench: Workbench, *, dataset: DatasetPlace, config: Config, run_dir: Path, reporter: Reporter
) -> None:
    student = bench.runner.model.module
    reporter.started(
        whereabouts(bench.device),
        resumed_from_epoch=bench.runner.epoch,
        teacher_sha256=student.teacher.sha256 if isinstance(student, TandemGFL) else None,
        dataset=dataset.manifest,
    )
    (run_dir / RunFile.CONFIG).write_text(config.pretty_text, encoding="utf-8")
    write_environment(run_dir / RunFile.ENVIRONMENT, device=bench.device)
    for file in (RunFile.SPEC, RunFile.CONFIG, RunFile.ENVIRONMENT):
        reporter.artifact(file)


def _measure_teacher(
    bench: Workbench, *, reporter: Reporter, termination: Termination
) -> Scores | None:
    """The teacher's own mAP on the same images through the same code, before anything is trained.

    A teacher that is not what it was thought to be shows here and not after the last epoch.
    """
    student = bench.runner.model.module
    if not isinstance(student, TandemGFL):
        return None
    runner = bench.runner
    reporter.progress(
        phase="preparing", epoch=0, epochs=runner.max_epochs, step=runner.iter, steps=0, eta_s=None
    )
    detector = MMDataParallel(student.teacher.detector, device_ids=runner.model.device_ids or [-1])
    scores = evaluate(
        detector,
        bench.validation,
        on_batch=lambda: leave_if_unwanted(reporter, termination=termination),
    )
    student.teacher.detector.eval()
    say_scores(reporter, scores, side="teacher", step=0)
    log.info("The teacher's mAP is %.3f.", scores.mean_ap)
    return scores


def _write_results(
    bench: Workbench, teacher: Scores | None, *, spec: RunSpec, run_dir: Path, reporter: Reporter
) -> None:
    student = bench.evaluation.best
    if student is None:
        return
    dataset: Any = bench.validation.dataset
    per_class = json.dumps(student.per_class, indent=2) + "\n"
    (run_dir / RunFile.PER_CLASS_AP).write_text(per_class, encoding="utf-8")
    pictures = write_pictures(
        run_dir, dataset, student=student, teacher=teacher, count=spec.evaluation.pictures
    )
    for path in (RunFile.PER_CLASS_AP, *pictures, RunFile.BEST, RunFile.LAST):
        reporter.artifact(path)
