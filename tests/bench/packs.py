"""`make bench-packs`: K students in a pack compared with the same students one after the other.

Both ways take turns within one run, so that whatever else the machine does falls on both. T (the
teacher's forward), S (a student's step) and D (loading a batch) are measured in the same run too.
Peak memory is of processes of their own, for a process cannot forget its peak.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from mmdet.models import build_detector
from rich.console import Console
from rich.progress import track
from rich.table import Table

from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.bench.table import Comparison
from tests.support.training.digits import write_digits
from workers.data.batches import to_device
from workers.data.digits import CLASSES
from workers.data.resolve import resolve_run_dataset
from workers.distillation.teacher import share_teachers
from workers.models.detector_config import build_detector_config
from workers.models.training_config import build_training_config
from workers.process import compat
from workers.process.logs import silence_libraries
from workers.telemetry.protocol import NullReporter
from workers.training.hooks.metrics import MetricsHook
from workers.training.hooks.seeding import StepSeedHook
from workers.training.loop import TrainLoop
from workers.training.runner import Runner
from workers.training.setup import build_runner, build_shared_inputs

SIZES = (1, 2, 4, 8)
DIGITS_TEACHER = Path(__file__).parents[2] / "configs/teachers"


class Scale(NamedTuple):
    """Sizes of the measurement."""

    rounds: int
    steps: int
    batch_size: int
    image_size: int


@dataclass(frozen=True)
class Round:
    """Times of one epoch in seconds, all measured within about a minute."""

    load_s: float
    teacher_s: float
    separate_run_s: float
    """Time of a separate run, with loading and teacher."""

    packed_s: dict[int, float]
    separate_s: dict[int, float]


SCALES = {"digits": Scale(5, 4, 16, 160), "r101-r18": Scale(3, 1, 2, 256)}


def make_pair_specs(name: str, folder: Path) -> dict[str, Any]:
    """The spec of a distilled run without its loss weights."""
    scale = SCALES[name]
    digits = write_digits(folder / "digits", train=scale.steps * scale.batch_size, val=2)
    spec: dict[str, Any] = {
        "data": {
            "dataset": {"root": str(digits)},
            "image_size": [scale.image_size, scale.image_size],
            "batch_size": scale.batch_size,
            "num_workers": 0,
        },
        "schedule": {"epochs": 1, "optimizer": {"kind": "adamw", "lr": 2e-3}, "max_grad_norm": 10},
        "loss_shares_every_steps": None,
    }
    if name == "digits":
        card = json.loads((DIGITS_TEACHER / "digits-teacher.json").read_text())
        student = {
            "backbone": {"depth": 18, "width": 0.25},
            "neck": {"channels": 32},
            "head": {"convs": 2, "channels": 32, "reg_max": 8},
        }
        teacher = {
            "checkpoint": str(DIGITS_TEACHER / "digits-teacher.pth"),
            "detector": card["detector"],
            "classes": card["classes"],
        }
        return spec | {"student": student, "teacher": teacher}
    student = {"backbone": {"depth": 18, "frozen_stages": 1, "norm_eval": True}}
    detector = {"backbone": {"depth": 101}}
    teacher = {"checkpoint": "", "detector": detector, "classes": list(CLASSES)}
    teacher["checkpoint"] = str(
        _make_untrained_teacher(spec | {"student": detector}, folder / "r101.pth")
    )
    return spec | {"student": student, "teacher": teacher}


def _make_untrained_teacher(document: dict[str, Any], file: Path) -> Path:
    """A teacher with random weights: these do not influence the time of a forward pass."""
    detector = build_detector(build_detector_config(parse_spec(document).student, classes=CLASSES))
    torch.save({"state_dict": detector.state_dict()}, file)
    return file


def make_trial_specs(document: dict[str, Any], count: int) -> list[RunSpec]:
    """Specs of runs that differ by their loss weights."""
    return [
        parse_spec(
            document
            | {"distillation": {"method": "bckd", "cls_weight": 1 + k / 8, "loc_weight": 4 - k / 8}}
        )
        for k in range(count)
    ]


class PackBenchmark:
    """One teacher-student pair, whose students are built once and trained repeatedly."""

    def __init__(self, name: str, count: int, folder: Path) -> None:
        compat.apply_patches()
        self.name = name
        specs = make_trial_specs(make_pair_specs(name, folder), count)
        self.inputs = build_shared_inputs(specs[0], dataset=resolve_run_dataset(specs[0]))
        with share_teachers():
            self.runners = [self._student(spec, folder) for spec in specs]

    def _student(self, spec: RunSpec, folder: Path) -> Runner:
        config = build_training_config(spec, dataset=self.inputs.dataset, run_dir=folder)
        runner = build_runner(
            config,
            spec=spec,
            device=self.inputs.device,
            classes=self.inputs.dataset.manifest.classes,
        )
        runner.register_lr_hook(config.lr_config)
        runner.register_hook(StepSeedHook(seed=spec.seed), priority="HIGHEST")
        runner.register_hook(MetricsHook(NullReporter(), interval_steps=10), priority="NORMAL")
        return runner

    def round(self, sizes: Sequence[int] = SIZES) -> Round:
        """Measure loading, the teacher, and each pack size both ways, once."""
        batches = list(self.inputs.training)
        separate = [self._seconds([runner]) for runner in self.runners]
        packed = {count: self._seconds(self.runners[:count]) for count in sizes}
        return Round(
            load_s=_measure_s(lambda: list(self.inputs.training)),
            teacher_s=_measure_s(lambda: self._run_teacher(batches)),
            separate_run_s=median(separate),
            packed_s=packed,
            separate_s={count: sum(separate[:count]) for count in sizes},
        )

    def _run_teacher(self, batches: list[Any]) -> None:
        teacher = self.runners[0].model.teacher
        for batch in batches:
            images = to_device(batch, self.inputs.device)["img"]
            teacher.forward(images, batch=images)

    def _seconds(self, runners: Sequence[Runner]) -> float:
        for runner in runners:
            runner.resume_from(epoch=0, step=0)
        return _measure_s(TrainLoop(runners, self.inputs.training, device=self.inputs.device).run)


def _measure_s(function: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start_s


def measure_peak_mib(name: str, count: int) -> float:
    """Peak memory in MiB of a process that trains a pack of this size."""
    command = [sys.executable, "-m", "tests.bench.packs", "--pair", name, "--peak", str(count)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(result.stdout.splitlines()[-1])


def _print_peak(name: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        benchmark = PackBenchmark(name, count, Path(folder))
        benchmark._seconds(benchmark.runners)
    print(_read_own_peak_kib() / 1024)  # noqa: T201


def _read_own_peak_kib() -> int:
    """Peak memory of this program; `getrusage` would include the process before `exec`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def compute_ideal_s(rounds: Sequence[Round], count: int) -> float:
    """The ratio (T + K * S) / (K * (T + S)) of the measured times, without loading."""
    teacher = median(round_.teacher_s for round_ in rounds)
    student = (
        median(round_.separate_run_s for round_ in rounds)
        - median(round_.load_s for round_ in rounds)
        - teacher
    )
    return (teacher + count * student) / (count * (teacher + student))


def compare_packs(*, rounds: int, folder: Path) -> list[Comparison]:
    """Packs of students on digits beside the same students alone; the target is the ideal ratio."""
    name = "digits"
    benchmark = PackBenchmark(name, max(SIZES), folder)
    benchmark.round()  # caches and allocators fill up
    measured = [benchmark.round() for _ in range(rounds)]
    return [
        Comparison(
            f"pack of {count} students, {name}",
            [round_.packed_s[count] for round_ in measured],
            [round_.separate_s[count] for round_ in measured],
            target=compute_ideal_s(measured, count),
        )
        for count in SIZES[1:]
    ]


def format_table(name: str, rounds: Sequence[Round]) -> Table:
    """Print a row for each K: both times, their ratio in each round, and the expected ratio."""
    scale = SCALES[name]
    load, teacher = (median(getattr(r, field) for r in rounds) for field in ("load_s", "teacher_s"))
    student = median(r.separate_run_s for r in rounds) - load - teacher
    steps = scale.steps
    title = (
        f"{name}: a step of {scale.batch_size} images of {scale.image_size} px takes the teacher "
        f"T = {teacher / steps:.3f} s, a student S = {student / steps:.3f} s, "
        f"loading D = {load / steps:.3f} s"
    )
    table = Table(title=title)
    names = ("K", "separate s", "packed s", "img/s separate", "packed", "ratio", "range", "ideal")
    for column in (*names, "measured/ideal", "peak MiB"):
        table.add_column(column, justify="right")
    for count in SIZES:
        ratios = [r.packed_s[count] / r.separate_s[count] for r in rounds]
        packed, separate = (
            median(getattr(r, field)[count] for r in rounds) for field in ("packed_s", "separate_s")
        )
        images = scale.batch_size * steps * count
        ideal_s = compute_ideal_s(rounds, count)
        table.add_row(
            str(count),
            f"{separate:.2f}",
            f"{packed:.2f}",
            f"{images / separate:.1f}",
            f"{images / packed:.1f}",
            f"{median(ratios):.3f}",
            f"{min(ratios):.3f}-{max(ratios):.3f}",
            f"{ideal_s:.3f}",
            f"{median(ratios) / ideal_s:.3f}",
            f"{measure_peak_mib(name, count):.0f}",
        )
    return table


def main() -> None:
    """Measure both pairs, or the named one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", choices=sorted(SCALES))
    parser.add_argument("--peak", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    silence_libraries()
    if arguments.peak:
        _print_peak(arguments.pair, arguments.peak)
        return
    console = Console(width=150)
    for name in [arguments.pair] if arguments.pair else sorted(SCALES):
        with tempfile.TemporaryDirectory() as folder:
            benchmark = PackBenchmark(name, max(SIZES), Path(folder))
            benchmark.round()  # caches and allocators fill up
            rounds = [benchmark.round() for _ in track(range(SCALES[name].rounds), name)]
        console.print(format_table(name, rounds))


if __name__ == "__main__":
    main()
