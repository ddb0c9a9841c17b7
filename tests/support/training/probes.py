"""What probes are asked in tests: a taught student on the small digits set, and a space."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from configs.protocol.probe import Costs, Probe
from configs.spec.jobs import ProbeSpec
from configs.spec.run import RunSpec
from tests.support.training.jobs import the_teacher
from tests.support.training.runs import a_spec
from workers.data.resolve import resolve_run_dataset
from workers.distillation.teacher import share_teachers
from workers.probe.builder import StudentFactory
from workers.probe.effects import EffectAnalyzer

TRAIN, VAL, BATCH = 20, 6, 8
UNMEASURED = Probe(
    effects={},
    costs=Costs(
        load_s=0,
        teacher_s=0,
        student_s=0,
        evaluation_s=0,
        steps_per_epoch=1,
        base_bytes=0,
        member_bytes=0,
        available_bytes=0,
        device="",
    ),
    detection_loss=1.0,
    unit_losses={},
)
"""What is known before a probe."""


def a_taught_spec(digits: Path, **schedule: Any) -> dict[str, Any]:
    spec = a_spec(digits, teacher=the_teacher(), distillation={"method": "bckd"})
    return spec | {"schedule": spec["schedule"] | schedule}


def a_probe(base: dict[str, Any], space: dict[str, Any]) -> ProbeSpec:
    return ProbeSpec.model_validate({"base": base, "space": space})


def between(low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"kind": "uniform", "low": low, "high": high} | more


def one_of(*values: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "choice", "values": list(values)} | more


def knobs_of(factory: StudentFactory, asked: ProbeSpec, measured: Probe) -> EffectAnalyzer:
    return EffectAnalyzer(factory, base=asked.base, probe=measured, on_trace=lambda: None)


@contextmanager
def a_bench(base: RunSpec, run_dir: Path) -> Iterator[StudentFactory]:
    """On the CPU, with one teacher for all students."""
    with share_teachers():
        yield StudentFactory(
            dataset=resolve_run_dataset(base), run_dir=run_dir, device=torch.device("cpu")
        )
