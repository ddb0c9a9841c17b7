"""What probes are asked in tests: a taught student on the small digits set, and a space."""

from pathlib import Path
from typing import Any

from configs.spec import Probe, ProbeSpec
from tests.jobs import the_teacher
from tests.training.runs import a_spec
from workers.probe.bench import Bench
from workers.probe.knobs import Knobs

TRAIN, VAL, BATCH = 20, 6, 8


def a_taught_spec(digits: Path, **schedule: Any) -> dict[str, Any]:
    spec = a_spec(digits, teacher=the_teacher(), distillation={"method": "bckd"})
    return spec | {"schedule": spec["schedule"] | schedule}


def a_probe(base: dict[str, Any], space: dict[str, Any]) -> ProbeSpec:
    return ProbeSpec.model_validate({"base": base, "space": space})


def between(low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"kind": "uniform", "low": low, "high": high} | more


def one_of(*values: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "choice", "values": list(values)} | more


def knobs_of(bench: Bench, asked: ProbeSpec, measured: Probe) -> Knobs:
    return Knobs(bench, base=asked.base, probe=measured, on_look=lambda: None)
