"""Specs of probes for a distilled student on the small digits set, and their search spaces."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from configs.protocol.probe import Costs, Probe
from configs.spec.jobs import ProbeSpec
from configs.spec.run import RunSpec
from tests.support.training.jobs import load_digits_teacher
from tests.support.training.runs import make_spec
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
"""A probe result without any measurement."""


def make_distilled_spec(digits: Path, **schedule: Any) -> dict[str, Any]:
    spec = make_spec(digits, teacher=load_digits_teacher(), distillation={"method": "bckd"})
    return spec | {"schedule": spec["schedule"] | schedule}


def make_probe_spec(base: dict[str, Any], space: dict[str, Any]) -> ProbeSpec:
    return ProbeSpec.model_validate({"base": base, "space": space})


def uniform(low: float, high: float, **options: Any) -> dict[str, Any]:
    return {"kind": "uniform", "low": low, "high": high} | options


def choice(*values: Any, **options: Any) -> dict[str, Any]:
    return {"kind": "choice", "values": list(values)} | options


def make_analyzer(factory: StudentFactory, spec: ProbeSpec, probe: Probe) -> EffectAnalyzer:
    return EffectAnalyzer(factory, base=spec.base, probe=probe, on_trace=lambda: None)


@contextmanager
def open_student_factory(base: RunSpec, run_dir: Path) -> Iterator[StudentFactory]:
    """Create a factory on the CPU with one teacher for all students."""
    with share_teachers():
        yield StudentFactory(
            dataset=resolve_run_dataset(base), run_dir=run_dir, device=torch.device("cpu")
        )
