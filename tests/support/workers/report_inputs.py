"""Report inputs of runs and sweeps with matching reports, with made-up numbers."""

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from configs.catalog import parse_spec
from configs.metric_keys import Metric
from configs.protocol.comparison import MAP_PARTS, Comparison, Difference, NoiseFloor
from configs.protocol.names import RunFile
from configs.protocol.probe import Costs
from configs.protocol.report import (
    CurvePoint,
    MissedImage,
    MissedObject,
    Report,
    ReportInputs,
    ReportRun,
    RunExecution,
    TeacherStudent,
    Transfer,
)
from configs.protocol.sweep_log import (
    SweepClosed,
    SweepEntry,
    TrialEnded,
    TrialJudged,
    TrialResult,
    TrialSuggested,
)
from configs.spec.dataset import DatasetManifest, Split
from configs.spec.references import DatasetFiles
from configs.spec.search import Asha, LogUniform
from configs.spec.sweep import SweepSpec, Values
from tests.support.factories import make_bckd_spec, make_spec

AT = datetime(2026, 11, 26, 14, 5, tzinfo=UTC)
SWEEP = "s" + "0" * 12
CLS, LOC = "distillation.cls_weight", "distillation.loc_weight"
NOISE = NoiseFloor(runs=3, freedom=2, deviation=0.0026, floor=0.0114)
EPOCHS = 12
TEACHER = {"bbox_mAP": 0.397, "bbox_mAP_50": 0.571}


def make_run_id(number: int) -> str:
    return f"r{number:012d}"


def make_curve(best: float, *, epochs: int = EPOCHS) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            step=100 * epoch,
            epoch=epoch,
            values={Metric.MAP: best * (1 - math.exp(-epoch / 3)) / (1 - math.exp(-EPOCHS / 3))},
        )
        for epoch in range(1, epochs + 1)
    )


def make_losses(*, is_distilled: bool) -> tuple[CurvePoint, ...]:
    """Make losses that fall over the epochs, with the terms of BCKD if `is_distilled`."""
    points = []
    for half_epoch in range(1, 2 * EPOCHS + 1):
        decay = math.exp(-half_epoch / 8)
        values = {Metric.LOSS_CLS: 0.4 + decay, Metric.LOSS_BBOX: 0.3 + 0.5 * decay}
        if is_distilled:
            values |= {Metric.LOSS_DISTILL_CLS: 2 * decay, Metric.LOSS_DISTILL_LOC: decay}
        values[Metric.LOSS] = sum(values.values())
        points.append(CurvePoint(step=50 * half_epoch, epoch=half_epoch / 2, values=dict(values)))
    return tuple(points)


def make_execution(**changes: Any) -> RunExecution:
    return RunExecution(
        **{
            "state": "succeeded",
            "started_at": AT - timedelta(hours=2),
            "finished_at": AT - timedelta(minutes=5),
            "attempts": 1,
            "steps": 100 * EPOCHS,
            "device": "cpu",
            "images_per_s": 31.4,
            "inference_images_per_s": 120.0,
        }
        | changes
    )


def make_manifest(name: str = "digits", **changes: Any) -> DatasetManifest:
    split = Split(
        annotations="val.json", images="val", num_images=400, num_boxes=900,
        annotations_sha256="0" * 64,
    )  # fmt: skip
    return DatasetManifest(
        **{
            "name": name,
            "classes": tuple("0123456789"),
            "train": split,
            "val": split,
            "digest": "0" * 64,
            "source": "made up",
            "license": "none",
        }
        | changes
    )


def make_baseline_run(folder: Path, *, number: int = 0, **changes: Any) -> ReportRun:
    spec = parse_spec(make_spec(schedule={"epochs": EPOCHS}, seed=changes.pop("seed", 0)))
    best = changes.get("best_map", 0.341)
    return ReportRun(
        **{
            "id": make_run_id(number),
            "name": f"baseline-{number}",
            "role": "baseline",
            "values": {},
            "folder": str(folder / make_run_id(number)),
            "spec": spec,
            "best_map": best,
            "best_epoch": EPOCHS,
            "teacher": {},
            "curve": make_curve(best or 0.0),
            "losses": make_losses(is_distilled=False),
            "execution": make_execution(),
            "mlflow_url": f"http://mlflow.example:5000/#/runs/{number}",
            "result": "finished",
        }
        | changes
    )


def make_distilled_run(folder: Path, *, number: int, **changes: Any) -> ReportRun:
    spec = parse_spec(make_bckd_spec(schedule={"epochs": EPOCHS}, seed=changes.pop("seed", 0)))
    best = changes.get("best_map", 0.364)
    return ReportRun(
        **{
            "id": make_run_id(number),
            "name": f"distilled-{number}",
            "role": "distilled",
            "values": {},
            "folder": str(folder / make_run_id(number)),
            "spec": spec,
            "baseline": make_run_id(0),
            "best_map": best,
            "best_epoch": EPOCHS,
            "teacher": TEACHER,
            "curve": make_curve(best or 0.0),
            "losses": make_losses(is_distilled=True),
            "execution": make_execution(),
            "mlflow_url": f"http://mlflow.example:5000/#/runs/{number}",
            "result": "finished",
        }
        | changes
    )


def make_difference(
    gain: float, *, half_width: float | None = 0.012, baseline: float = 0.341
) -> Difference:
    return Difference(
        run=baseline + gain,
        baseline=baseline,
        difference=gain,
        low=None if half_width is None else gain - half_width,
        high=None if half_width is None else gain + half_width,
    )


def make_comparison(**changes: Any) -> Comparison:
    gain = changes.pop("gain", 0.023)
    half_width = changes.pop("half_width", 0.012)
    parts = {
        name: make_difference(gain * (1 + 0.2 * index), half_width=half_width)
        for index, name in enumerate(MAP_PARTS)
    }
    low, high = parts["bbox_mAP"].low, parts["bbox_mAP"].high
    verdict = "cannot_tell"
    if low is not None and high is not None:
        verdict = "helps" if low > 0 else "hurts" if high < 0 else "cannot_tell"
    return Comparison(
        **{
            "runs": (make_run_id(1),),
            "baselines": (make_run_id(0),),
            "parts": parts,
            "teacher_map": 0.397,
            "gap_closed": gain / 0.056,
            "verdict": verdict,
            "seed_spread": "noise_floor",
            "basis": "The 5000 validation images were resampled, and the noise floor was added.",
        }
        | changes
    )


def make_transfer(run: int = 1, *, images: Sequence[MissedImage] = ()) -> Transfer:
    rng = random.Random(1)
    names = ("person", "bicycle", "car", "traffic light", "dining table", "bird", "hair drier")
    teachers = {name: rng.uniform(0.2, 0.7) for name in names}
    return Transfer(
        run=make_run_id(run),
        by_class={
            name: TeacherStudent(teacher=ap, student=ap - rng.uniform(-0.02, 0.12))
            for name, ap in teachers.items()
        },
        by_size={
            "s": TeacherStudent(teacher=0.22, student=0.17),
            "m": TeacherStudent(teacher=0.44, student=0.40),
            "l": TeacherStudent(teacher=0.55, student=0.53),
        },
        by_iou={
            f"{iou / 100:.2f}": TeacherStudent(
                teacher=0.57 * (1 - ((iou - 50) / 60) ** 2), student=0.55 - (iou - 50) / 95
            )
            for iou in range(50, 100, 5)
        },
        errors={
            "classification": TeacherStudent(teacher=210, student=288),
            "localization": TeacherStudent(teacher=640, student=811),
            "duplicate": TeacherStudent(teacher=12, student=15),
            "background": TeacherStudent(teacher=350, student=371),
            "missed": TeacherStudent(teacher=1420, student=1893),
        },
        images=tuple(images),
    )


def make_missed_image(file: str, *, class_name: str = "person", boxes: int = 2) -> MissedImage:
    return MissedImage(
        file=file,
        objects=tuple(
            MissedObject(
                class_name=class_name,
                box=(10.0 + 30 * index, 20.0, 50.0 + 30 * index, 80.0),
                teacher_score=0.9 - index / 10,
            )
            for index in range(boxes)
        ),
    )


COSTS = Costs(
    load_s=0.1,
    teacher_s=0.4,
    student_s=0.5,
    evaluation_s=10.0,
    steps_per_epoch=100,
    base_bytes=0,
    member_bytes=0,
    available_bytes=0,
    device="cpu",
)
"""Costs with which a student's epoch takes a minute."""


def make_run_inputs(folder: Path, **changes: Any) -> ReportInputs:
    return ReportInputs(
        **{
            "title": "bckd_r18_from_r101",
            "at": AT,
            "dataset": DatasetFiles(root=str(folder / "data")),
            "runs": (make_baseline_run(folder), make_distilled_run(folder, number=1)),
            "noise": NOISE,
            "service_url": "http://tandem.example:8000",
            "mlflow_url": "http://mlflow.example:5000",
        }
        | changes
    )


def make_run_report(**changes: Any) -> Report:
    return Report(
        **{
            "title": "bckd_r18_from_r101",
            "comparisons": (make_comparison(),),
            "noise": NOISE,
            "importance": {},
            "transfer": make_transfer(),
        }
        | changes
    )


def make_sweep_spec(**changes: Any) -> SweepSpec:
    return SweepSpec(
        **{
            "base": parse_spec(make_bckd_spec(schedule={"epochs": EPOCHS})),
            "space": {
                CLS: LogUniform(low=0.1, high=10.0, when={}),
                LOC: LogUniform(low=0.4, high=40.0, when={}),
                "schedule.optimizer.lr": LogUniform(low=0.001, high=0.05, when={}),
            },
            "scheduler": Asha(),
            "tags": {},
        }
        | changes
    )


def make_sweep_inputs(folder: Path, *, trials: int = 12, **changes: Any) -> ReportInputs:
    """Make a sweep in which every fourth trial was stopped early and the last one failed."""
    rng = random.Random(3)
    runs = [make_baseline_run(folder)]
    entries: list[SweepEntry] = []
    for number in range(trials):
        values: Values = {
            CLS: 10 ** rng.uniform(-1, 1),
            LOC: 4 * 10 ** rng.uniform(-1, 1),
            "schedule.optimizer.lr": 10 ** rng.uniform(-3, -1.3),
        }
        result: TrialResult = "stopped" if number % 4 == 3 else "finished"
        epoch = 4 if result == "stopped" else EPOCHS
        best = _score(values) * (0.8 if result == "stopped" else 1.0)
        if number == trials - 1:
            result, epoch, best = "failed", 0, 0.0
        runs.append(
            make_distilled_run(
                folder,
                number=number + 1,
                trial=number,
                values=values,
                result=result,
                best_map=best or None,
                curve=make_curve(best, epochs=epoch),
            )
        )
        entries.append(TrialSuggested(number=number, values=values))
        if epoch:
            should_continue = result == "finished"
            metrics = {Metric.MAP.value: best}
            entries.append(
                TrialJudged(number=number, epoch=4, values=metrics, should_continue=should_continue)
            )
        best_values = {Metric.MAP.value: best} if epoch else {}
        entries.append(TrialEnded(number=number, result=result, epoch=epoch, values=best_values))
    entries.append(SweepClosed(why="the budget of 12 trials is spent"))
    defaults = {
        "title": "Two weights and a learning rate",
        "runs": tuple(runs),
        "sweep_id": SWEEP,
        "sweep": make_sweep_spec(),
        "entries": tuple(entries),
        "costs": COSTS,
        "at": AT + timedelta(hours=9),
    }
    return make_run_inputs(folder, **(defaults | changes))


def make_sweep_report(inputs: ReportInputs, **changes: Any) -> Report:
    """Make a report with a comparison of every finished trial."""
    finished_runs = [r for r in inputs.runs if r.trial is not None and r.result == "finished"]
    best = max(finished_runs, key=lambda run: run.best_map or 0.0)
    assert best.best_map is not None
    tied = [
        run.trial
        for run in finished_runs
        if run is not best and best.best_map - (run.best_map or 0.0) <= NOISE.floor
    ]
    defaults = {
        "title": inputs.title,
        "comparisons": tuple(
            make_comparison(
                runs=(run.id,),
                trial=run.trial,
                gain=(run.best_map or 0.0) - 0.341,
                half_width=0.008,
            )
            for run in finished_runs
        ),
        "best_trial": best.trial,
        "tied_with_best": tuple(tied),
        "importance": {"schedule.optimizer.lr": 0.55, LOC: 0.27, CLS: 0.18},
        "epochs_trained": 12 * len(finished_runs) + 12,
        "epochs_saved": 24,
        "transfer": make_transfer(int(best.id[1:])),
    }
    return make_run_report(**(defaults | changes))


def create_detection_files(inputs: ReportInputs) -> None:
    """Create empty detection files of the finished runs; pages do not read them."""
    for run in inputs.runs:
        if run.result == "finished":
            file = Path(run.folder) / RunFile.MATCHES
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def _score(values: Values) -> float:
    cls, loc, lr = (float(value) for value in values.values())
    return (
        0.372
        - 0.006 * math.log10(cls) ** 2
        - 0.008 * math.log10(loc / 4) ** 2
        - 0.03 * math.log10(lr / 0.01) ** 2
    )
