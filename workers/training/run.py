"""What one run does around the training loop, alone or in a pack: start, evaluation, results."""

import json
import logging
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from configs.metric_keys import Metric
from configs.protocol.names import RunFile
from configs.spec.run import RunSpec
from workers import distributed
from workers.analysis.matches import write_matches
from workers.attempt.stop import Termination, raise_if_stopped
from workers.checkpoints.files import load_checkpoint
from workers.data.loaders import unwrap_dataset
from workers.data.resolve import LocalDataset
from workers.data.unlabelled import UNLABELLED
from workers.distillation.methods.catalog import list_releases
from workers.distillation.methods.registry import resolve_methods
from workers.evaluation.coco import CocoMetrics, evaluate
from workers.evaluation.samples import write_sample_images
from workers.machine.environment import get_gpu_info, get_process_info, write_environment
from workers.models.config_file import write_config
from workers.telemetry.log_lines import format_map
from workers.telemetry.protocol import Reporter
from workers.training.hooks.evaluation import report_metrics
from workers.training.resume import load_student
from workers.training.setup import TrainingSetup

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """A run that is ready to train, with the reporter of its attempt."""

    spec: RunSpec
    run_dir: Path
    reporter: Reporter
    setup: TrainingSetup

    def report_start(self, dataset: LocalDataset) -> None:
        """Report where this attempt runs and on which data; store its config and environment."""
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
        write_config(self.setup.config, self.run_dir / RunFile.CONFIG)
        environment = self.run_dir / RunFile.ENVIRONMENT
        methods = list_releases(resolve_methods(self.spec.distillation).values())
        write_environment(environment, device=self.setup.device, gpus=gpus, methods=methods)
        for file in (RunFile.SPEC, RunFile.CONFIG, RunFile.ENVIRONMENT):
            self.reporter.report_artifact(file)
        self._report_inherited_weights()

    def _report_inherited_weights(self) -> None:
        """Once: an attempt that resumes begins with the weights of its checkpoint."""
        inherited = self.setup.model.inherited
        if inherited is None or self.setup.runner.iter:
            return
        file = self.run_dir / RunFile.INHERITED_WEIGHTS
        file.write_text(inherited.model_dump_json(indent=2) + "\n", encoding="utf-8")
        self.reporter.report_artifact(RunFile.INHERITED_WEIGHTS)
        self.reporter.report_note(f"Initial weights from the teacher: {inherited.summary}.")
        count = {str(Metric.INHERITED_TENSORS): float(len(inherited.tensors))}
        self.reporter.report_metrics(step=0, values=count)

    def evaluate_teacher(self, *, termination: Termination) -> CocoMetrics | None:
        """Evaluate the teacher on the validation images, with the same code as the student.

        It runs before training, so that a wrong teacher is noticed then and not after the last
        epoch. Returns None for a run without a teacher.
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

        def on_batch() -> None:
            self.reporter.heartbeat.beat()
            # Several processes stop together, after the first training step.
            if distributed.get_world_size() == 1:
                raise_if_stopped(self.reporter, termination=termination)

        metrics = evaluate(
            teacher.detector,
            self.setup.validation,
            device=self.setup.device,
            max_detections=self.spec.evaluation.max_detections,
            on_batch=on_batch,
        )
        teacher.detector.eval()
        log.info("The teacher's mAP is %s.", format_map(metrics.mean_ap))
        return metrics

    def report_teacher_metrics(self, metrics: CocoMetrics | None) -> None:
        """Report the teacher's metrics if they are comparable with the student's."""
        if metrics is not None and self._is_teacher_comparable:
            report_metrics(self.reporter, metrics, side="teacher", step=0)

    def finish(self, teacher: CocoMetrics | None) -> None:
        """Evaluate the best student, unless this attempt has done so, and write the results."""
        student = self._get_best_metrics()
        if distributed.is_main_process():
            self._write_results(student, teacher)

    def write_nan_batch(self) -> None:
        """Write the names of the images of the step whose loss was NaN or infinite."""
        runner = self.setup.runner
        local_images = [
            meta["ori_filename"]
            for micro_batch in runner.data_batch
            for batch in (micro_batch, micro_batch.get(UNLABELLED, {}))
            for meta in batch.get("img_metas", ())
        ]
        images = list(chain.from_iterable(distributed.all_gather_object(local_images)))
        if not distributed.is_main_process():
            return
        document = {"step": runner.iter + 1, "images": images}
        file = self.run_dir / RunFile.NAN_BATCH
        file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        self.reporter.report_artifact(RunFile.NAN_BATCH)

    @property
    def _is_teacher_comparable(self) -> bool:
        """Whether there is a teacher with the student's classes in the same order."""
        model = self.setup.model
        return model.teacher is not None and model.teacher_columns is None

    def _get_best_metrics(self) -> CocoMetrics:
        """The best evaluation; if an earlier attempt made it, its student is evaluated again."""
        setup, heartbeat = self.setup, self.reporter.heartbeat
        metrics = setup.evaluation.best
        if metrics is not None and metrics.mean_ap >= setup.checkpoints.best_map:
            return metrics
        load_student(setup.model, load_checkpoint(self.run_dir / RunFile.BEST))
        heartbeat.beat("finishing")
        return evaluate(
            setup.model,
            setup.validation,
            device=setup.device,
            max_detections=self.spec.evaluation.max_detections,
            on_batch=heartbeat.beat,
        )

    def _write_results(self, student: CocoMetrics, teacher: CocoMetrics | None) -> None:
        self.reporter.heartbeat.beat("finishing")
        dataset = unwrap_dataset(self.setup.validation)
        comparable_teacher = teacher if self._is_teacher_comparable else None
        write_matches(self.run_dir, dataset, student=student, teacher=comparable_teacher)
        ap_by_class = json.dumps(student.ap_by_class, indent=2) + "\n"
        (self.run_dir / RunFile.PER_CLASS_AP).write_text(ap_by_class, encoding="utf-8")
        pictures = write_sample_images(
            self.run_dir,
            dataset,
            student=student,
            teacher=teacher,
            count=self.spec.evaluation.pictures,
        )
        for path in (RunFile.PER_CLASS_AP, *pictures, RunFile.BEST, RunFile.LAST):
            self.reporter.report_artifact(path)
