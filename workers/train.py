"""One attempt of a run, on one page: spec -> config -> runner -> outcome."""

import contextlib
import json
import logging
from pathlib import Path

import torch

from configs.spec import DatasetFiles, ExitCode, NamedTeacher, RunFile, RunSpec, RunTeacher
from workers import processes
from workers.analysis.matches import write_matches
from workers.attempt import say_how_the_last_ended
from workers.checkpoints import load_checkpoint
from workers.data.manifest import check_dataset
from workers.errors import (
    DatasetError,
    InvalidSpec,
    NanLoss,
    Preempted,
    StopRequested,
    Superseded,
    TeacherMismatch,
)
from workers.evaluation import Scores, evaluate
from workers.failures import exit_code_of, message_of, reason_of
from workers.group import Slips, Witness
from workers.hooks.checkpoints import CheckpointsHook
from workers.hooks.control import Termination, leave_if_unwanted
from workers.hooks.evaluation import say_scores
from workers.loading import whole_dataset
from workers.provenance import whereabouts, write_environment
from workers.pulse import STALL_AFTER_S
from workers.recipe import DatasetPlace
from workers.remains import oom_kills_since_start
from workers.reporting.identity import Identity
from workers.reporting.reporter import Reporter
from workers.reporting.voice import Voice
from workers.resuming import load_student
from workers.showcase import write_pictures
from workers.watchdog import watched
from workers.workbench import Workbench, build_workbench

_KNOWN_TO_ALL = (NanLoss, Preempted, InvalidSpec, DatasetError, TeacherMismatch)
"""What all processes of a group raise at one place; anything else leaves the others behind."""

log = logging.getLogger(__name__)


def train(
    spec: RunSpec,
    *,
    identity: Identity,
    run_dir: Path,
    termination: Termination,
    device: torch.device | None = None,
    stall_after_s: float = STALL_AFTER_S,
) -> ExitCode:
    """Train until the run ends or this attempt does; every end is reported, none is raised.

    Where several processes train together, each calls this, on the `device` it was given; the
    first one reports.
    """
    log_file = Slips(run_dir, attempt=identity.attempt).log_of(processes.rank())
    with _voice(spec, identity=identity, run_dir=run_dir) as voice:
        say_how_the_last_ended(voice, run_dir=run_dir, attempt=identity.attempt)
        try:
            with watched(voice, log_file=log_file, stall_after_s=stall_after_s):
                best = _train(
                    spec, run_dir=run_dir, voice=voice, termination=termination, assigned=device
                )
        except Superseded as error:
            log.warning("%s", error)
            return ExitCode.FENCED
        except StopRequested as error:
            voice.outcome("cancelled" if error.ends_the_run else "stopped", message=str(error))
            return ExitCode.CANCELLED if error.ends_the_run else ExitCode.STOPPED
        except Exception as error:
            if processes.count() > 1 and not isinstance(error, _KNOWN_TO_ALL):
                raise
            oom_kills = oom_kills_since_start(run_dir, attempt=identity.attempt)
            reason = reason_of(error, oom_kills=oom_kills)
            log.exception("The attempt failed: %s", reason)
            voice.outcome("failed", reason=reason, message=message_of(error))
            return exit_code_of(reason)
        voice.outcome("succeeded", best_map=best.best_map, best_epoch=best.best_epoch)
        return ExitCode.SUCCEEDED


def _voice(
    spec: RunSpec, *, identity: Identity, run_dir: Path
) -> contextlib.AbstractContextManager[Voice]:
    if not processes.is_first():
        return contextlib.nullcontext(Witness(Slips(run_dir, attempt=identity.attempt)))
    return Reporter.open(run_dir, identity=identity, spec=spec)


def _train(
    spec: RunSpec,
    *,
    run_dir: Path,
    voice: Voice,
    termination: Termination,
    assigned: torch.device | None,
) -> CheckpointsHook:
    dataset = _dataset_of(spec)
    bench = build_workbench(
        spec,
        dataset=dataset,
        run_dir=run_dir,
        voice=voice,
        termination=termination,
        assigned=assigned,
    )
    _say_started(bench, dataset=dataset, run_dir=run_dir, voice=voice)
    teacher = _measure_teacher(bench, voice=voice, termination=termination)
    try:
        bench.runner.go(bench.training)
    except NanLoss:
        _keep_offending_batch(bench, run_dir=run_dir, voice=voice)
        raise
    student = _best_scores(bench, run_dir=run_dir, voice=voice)
    if processes.is_first():
        _write_results(bench, student, teacher, spec=spec, run_dir=run_dir, voice=voice)
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


def _say_started(bench: Workbench, *, dataset: DatasetPlace, run_dir: Path, voice: Voice) -> None:
    teacher = bench.model.teacher
    voice.started(
        whereabouts(bench.device),
        resumed_from_epoch=bench.runner.epoch,
        teacher_sha256=None if teacher is None else teacher.sha256,
        dataset=dataset.manifest,
    )
    if not processes.is_first():
        return
    (run_dir / RunFile.CONFIG).write_text(bench.config.pretty_text, encoding="utf-8")
    write_environment(run_dir / RunFile.ENVIRONMENT, device=bench.device)
    for file in (RunFile.SPEC, RunFile.CONFIG, RunFile.ENVIRONMENT):
        voice.artifact(file)


def _measure_teacher(bench: Workbench, *, voice: Voice, termination: Termination) -> Scores | None:
    """The teacher's own mAP on the same images through the same code, before anything is trained.

    A teacher that is not what it was thought to be shows here and not after the last epoch.
    """
    teacher = bench.model.teacher
    if teacher is None:
        return None
    voice.progress(
        phase="preparing",
        epoch=0,
        epochs=bench.runner.max_epochs,
        step=bench.runner.iter,
        steps=0,
        eta_s=None,
    )

    def leave_alone() -> None:
        voice.pulse.beat()
        # Several processes leave together, and that is after the first step.
        if processes.count() == 1:
            leave_if_unwanted(voice, termination=termination)

    scores = evaluate(teacher.detector, bench.validation, device=bench.device, on_batch=leave_alone)
    teacher.detector.eval()
    if bench.model.teacher_columns is None:
        say_scores(voice, scores, side="teacher", step=0)
        log.info("The teacher's mAP is %.3f.", scores.mean_ap)
    return scores


def _best_scores(bench: Workbench, *, run_dir: Path, voice: Voice) -> Scores:
    """The best evaluation; if an earlier attempt made it, its student is measured again."""
    scores = bench.evaluation.best
    if scores is not None and scores.mean_ap >= bench.checkpoints.best_map:
        return scores
    load_student(bench.model, load_checkpoint(run_dir / RunFile.BEST))
    voice.pulse.beat("finishing")
    return evaluate(bench.model, bench.validation, device=bench.device, on_batch=voice.pulse.beat)


def _write_results(
    bench: Workbench,
    student: Scores,
    teacher: Scores | None,
    *,
    spec: RunSpec,
    run_dir: Path,
    voice: Voice,
) -> None:
    voice.pulse.beat("finishing")
    per_class = json.dumps(student.per_class, indent=2) + "\n"
    (run_dir / RunFile.PER_CLASS_AP).write_text(per_class, encoding="utf-8")
    dataset = whole_dataset(bench.validation)
    # A teacher of other classes says nothing that could be compared with the student's.
    comparable = teacher is not None and bench.model.teacher_columns is None
    write_matches(run_dir, dataset, student=student, teacher=teacher if comparable else None)
    pictures = write_pictures(
        run_dir,
        dataset,
        student=student,
        teacher=teacher,
        count=spec.evaluation.pictures,
    )
    for path in (RunFile.PER_CLASS_AP, *pictures, RunFile.BEST, RunFile.LAST):
        voice.artifact(path)


def _keep_offending_batch(bench: Workbench, *, run_dir: Path, voice: Voice) -> None:
    """Write down the images of the step that ended in a loss that is not a number."""
    mine = [
        meta["ori_filename"]
        for part in bench.runner.data_batch
        for of_device in part["img_metas"].data
        for meta in of_device
    ]
    images = [name for of_process in processes.gathered(mine) for name in of_process]
    if not processes.is_first():
        return
    facts = {"step": bench.runner.iter + 1, "images": images}
    (run_dir / RunFile.NAN_BATCH).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    voice.artifact(RunFile.NAN_BATCH)
