"""A run's own part of training, alone or in a pack: its first words, its end, its results."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from configs.protocol.names import RunFile
from configs.spec.run import RunSpec
from workers import distributed
from workers.analysis.matches import write_matches
from workers.attempt.stop import Termination, leave_if_unwanted
from workers.checkpoints.files import load_checkpoint
from workers.data.loaders import whole_dataset
from workers.data.resolve import DatasetPlace
from workers.evaluation.coco import Scores, evaluate
from workers.evaluation.samples import write_pictures
from workers.machine.environment import gpu_of, whereabouts, write_environment
from workers.telemetry.protocol import Voice
from workers.training.hooks.evaluation import say_scores
from workers.training.resume import load_student
from workers.training.setup import Workbench

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Course:
    """A run that is ready to train, and whom it tells."""

    spec: RunSpec
    run_dir: Path
    voice: Voice
    bench: Workbench

    def say_started(self, dataset: DatasetPlace) -> None:
        """Say where this attempt runs and on what; keep what its numbers rest on."""
        teacher = self.bench.model.teacher
        self.voice.started(
            whereabouts(self.bench.device),
            resumed_from_epoch=self.bench.runner.epoch,
            teacher_sha256=None if teacher is None else teacher.sha256,
            dataset=dataset.manifest,
        )
        gpus = distributed.gathered(gpu_of(self.bench.device))
        if not distributed.is_first():
            return
        config = self.run_dir / RunFile.CONFIG
        config.write_text(self.bench.config.pretty_text, encoding="utf-8")
        environment = self.run_dir / RunFile.ENVIRONMENT
        write_environment(environment, device=self.bench.device, gpus=gpus)
        for file in (RunFile.SPEC, RunFile.CONFIG, RunFile.ENVIRONMENT):
            self.voice.artifact(file)

    def measure_teacher(self, *, termination: Termination) -> Scores | None:
        """The teacher's own mAP on the same images through the same code, before training.

        A teacher that is not what it was thought to be shows here and not after the last epoch.
        """
        teacher = self.bench.model.teacher
        if teacher is None:
            return None
        self.voice.progress(
            phase="preparing",
            epoch=0,
            epochs=self.bench.runner.max_epochs,
            step=self.bench.runner.iter,
            steps=0,
            eta_s=None,
        )

        def leave_alone() -> None:
            self.voice.pulse.beat()
            # Several processes leave together, and that is after the first step.
            if distributed.count() == 1:
                leave_if_unwanted(self.voice, termination=termination)

        scores = evaluate(
            teacher.detector,
            self.bench.validation,
            device=self.bench.device,
            on_batch=leave_alone,
        )
        teacher.detector.eval()
        log.info("The teacher's mAP is %.3f.", scores.mean_ap)
        return scores

    def say_teachers(self, scores: Scores | None) -> None:
        """Say the teacher's numbers, where they can be compared with the student's."""
        if scores is not None and self._is_teacher_comparable:
            say_scores(self.voice, scores, side="teacher", step=0)

    def finish(self, teacher: Scores | None) -> None:
        """Measure the best student, if need be, and write the results down."""
        student = self._best_scores()
        if distributed.is_first():
            self._write_results(student, teacher)

    def keep_offending_batch(self) -> None:
        """Write down the images of the step that ended in a loss that is not a number."""
        runner = self.bench.runner
        mine = [meta["ori_filename"] for part in runner.data_batch for meta in part["img_metas"]]
        images = [name for of_process in distributed.gathered(mine) for name in of_process]
        if not distributed.is_first():
            return
        facts = {"step": runner.iter + 1, "images": images}
        file = self.run_dir / RunFile.NAN_BATCH
        file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        self.voice.artifact(RunFile.NAN_BATCH)

    @property
    def _is_teacher_comparable(self) -> bool:
        """Whether there is one that knows the student's classes, and in their order."""
        model = self.bench.model
        return model.teacher is not None and model.teacher_columns is None

    def _best_scores(self) -> Scores:
        """The best evaluation; if an earlier attempt made it, its student is measured again."""
        bench, voice = self.bench, self.voice
        scores = bench.evaluation.best
        if scores is not None and scores.mean_ap >= bench.checkpoints.best_map:
            return scores
        load_student(bench.model, load_checkpoint(self.run_dir / RunFile.BEST))
        voice.pulse.beat("finishing")
        return evaluate(
            bench.model, bench.validation, device=bench.device, on_batch=voice.pulse.beat
        )

    def _write_results(self, student: Scores, teacher: Scores | None) -> None:
        self.voice.pulse.beat("finishing")
        dataset = whole_dataset(self.bench.validation)
        compared = teacher if self._is_teacher_comparable else None
        write_matches(self.run_dir, dataset, student=student, teacher=compared)
        per_class = json.dumps(student.per_class, indent=2) + "\n"
        (self.run_dir / RunFile.PER_CLASS_AP).write_text(per_class, encoding="utf-8")
        pictures = write_pictures(
            self.run_dir,
            dataset,
            student=student,
            teacher=teacher,
            count=self.spec.evaluation.pictures,
        )
        for path in (RunFile.PER_CLASS_AP, *pictures, RunFile.BEST, RunFile.LAST):
            self.voice.artifact(path)
