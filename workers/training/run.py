"""A run's own part of training, alone or in a pack: its first words, its end, its results."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from configs.protocol.names import RunFile
from configs.spec.run import RunSpec
from workers import distributed
from workers.analysis.matches import write_matches
from workers.attempt.stop import Termination, raise_if_stopped
from workers.checkpoints.files import load_checkpoint
from workers.data.loaders import unwrap_dataset
from workers.data.resolve import LocalDataset
from workers.evaluation.coco import CocoMetrics, evaluate
from workers.evaluation.samples import write_sample_images
from workers.machine.environment import get_gpu_info, get_process_info, write_environment
from workers.telemetry.protocol import Reporter
from workers.training.hooks.evaluation import report_metrics
from workers.training.resume import load_student
from workers.training.setup import TrainingSetup

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """A run that is ready to train, and whom it tells."""

    spec: RunSpec
    run_dir: Path
    reporter: Reporter
    setup: TrainingSetup

    def report_started(self, dataset: LocalDataset) -> None:
        """Say where this attempt runs and on what; keep what its numbers rest on."""
        teacher = self.setup.model.teacher
        self.reporter.report_start(
            get_process_info(self.setup.device),
            resumed_from_epoch=self.setup.runner.epoch,
            teacher_sha256=None if teacher is None else teacher.sha256,
            dataset=dataset.manifest,
        )
        gpus = distributed.all_gather_object(get_gpu_info(self.setup.device))
        if not distributed.is_main_process():
            return
        config = self.run_dir / RunFile.CONFIG
        config.write_text(self.setup.config.pretty_text, encoding="utf-8")
        environment = self.run_dir / RunFile.ENVIRONMENT
        write_environment(environment, device=self.setup.device, gpus=gpus)
        for file in (RunFile.SPEC, RunFile.CONFIG, RunFile.ENVIRONMENT):
            self.reporter.report_artifact(file)

    def evaluate_teacher(self, *, termination: Termination) -> CocoMetrics | None:
        """The teacher's own mAP on the same images through the same code, before training.

        A teacher that is not what it was thought to be shows here and not after the last epoch.
        """
        teacher = self.setup.model.teacher
        if teacher is None:
            return None
        self.reporter.report_progress(
            phase="preparing",
            epoch=0,
            epochs=self.setup.runner.max_epochs,
            step=self.setup.runner.iter,
            steps=0,
            eta_s=None,
        )

        def leave_alone() -> None:
            self.reporter.heartbeat.beat()
            # Several processes leave together, and that is after the first step.
            if distributed.get_world_size() == 1:
                raise_if_stopped(self.reporter, termination=termination)

        scores = evaluate(
            teacher.detector,
            self.setup.validation,
            device=self.setup.device,
            on_batch=leave_alone,
        )
        teacher.detector.eval()
        log.info("The teacher's mAP is %.3f.", scores.mean_ap)
        return scores

    def report_teacher_metrics(self, scores: CocoMetrics | None) -> None:
        """Say the teacher's numbers, where they can be compared with the student's."""
        if scores is not None and self._is_teacher_comparable:
            report_metrics(self.reporter, scores, side="teacher", step=0)

    def finish(self, teacher: CocoMetrics | None) -> None:
        """Measure the best student, if need be, and write the results down."""
        student = self._best_scores()
        if distributed.is_main_process():
            self._write_results(student, teacher)

    def write_nan_batch(self) -> None:
        """Write down the images of the step that ended in a loss that is not a number."""
        runner = self.setup.runner
        mine = [meta["ori_filename"] for part in runner.data_batch for meta in part["img_metas"]]
        images = [name for of_process in distributed.all_gather_object(mine) for name in of_process]
        if not distributed.is_main_process():
            return
        facts = {"step": runner.iter + 1, "images": images}
        file = self.run_dir / RunFile.NAN_BATCH
        file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        self.reporter.report_artifact(RunFile.NAN_BATCH)

    @property
    def _is_teacher_comparable(self) -> bool:
        """Whether there is one that knows the student's classes, and in their order."""
        model = self.setup.model
        return model.teacher is not None and model.teacher_columns is None

    def _best_scores(self) -> CocoMetrics:
        """The best evaluation; if an earlier attempt made it, its student is measured again."""
        bench, reporter = self.setup, self.reporter
        scores = bench.evaluation.best
        if scores is not None and scores.mean_ap >= bench.checkpoints.best_map:
            return scores
        load_student(bench.model, load_checkpoint(self.run_dir / RunFile.BEST))
        reporter.heartbeat.beat("finishing")
        return evaluate(
            bench.model, bench.validation, device=bench.device, on_batch=reporter.heartbeat.beat
        )

    def _write_results(self, student: CocoMetrics, teacher: CocoMetrics | None) -> None:
        self.reporter.heartbeat.beat("finishing")
        dataset = unwrap_dataset(self.setup.validation)
        compared = teacher if self._is_teacher_comparable else None
        write_matches(self.run_dir, dataset, student=student, teacher=compared)
        per_class = json.dumps(student.ap_by_class, indent=2) + "\n"
        (self.run_dir / RunFile.PER_CLASS_AP).write_text(per_class, encoding="utf-8")
        pictures = write_sample_images(
            self.run_dir,
            dataset,
            student=student,
            teacher=teacher,
            count=self.spec.evaluation.pictures,
        )
        for path in (RunFile.PER_CLASS_AP, *pictures, RunFile.BEST, RunFile.LAST):
            self.reporter.report_artifact(path)
