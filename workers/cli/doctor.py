"""What training needs of a machine, tried and not only looked up."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

from workers.machine.driver import NvmlResult, query_nvml, read_driver
from workers.machine.finding import MachineFinding
from workers.machine.gpu import GpuReport, examine_gpus
from workers.machine.gpu_findings import TorchBuild, examine_machine

_GIB = 1 << 30
_SHARED_MEMORY_FOR_GPU = 2 * _GIB
"""A run's loaders and NCCL; 4 loaders keep 1.65 GiB of COCO images, at 16 a batch, on their way."""

_LEAST_SHARED_MEMORY = _GIB
_PACKAGES = ("torch", "mmcv-full", "mmdet", "numpy")


@dataclass(frozen=True)
class DoctorEnvironment:
    """Where the examination looks; tests pass another."""

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    ask_nvml: Callable[[], NvmlResult] = query_nvml
    torch_build: TorchBuild = field(default_factory=TorchBuild)
    examine: Callable[..., Sequence[GpuReport]] = examine_gpus


def run_checks(machine: DoctorEnvironment | None = None) -> list[MachineFinding]:
    """All checks; none stops the others."""
    place = machine or DoctorEnvironment()
    driver = read_driver(place.root, environment=place.environment, ask_nvml=place.ask_nvml)
    gpus = examine_machine(
        driver, environment=place.environment, torch_build=place.torch_build, examine=place.examine
    )
    shared = place.root / "dev" / "shm"
    return [
        _finding("versions", _versions, "Run `make setup`."),
        _finding(
            "mmcv operators",
            _operators,
            "Run `make clean setup`: mmcv-full was built for another torch.",
        ),
        *gpus.findings(),
        _finding(
            "shared memory",
            lambda: _shared_memory(shared, num_gpus=len(gpus.reports)),
            "Give the container more (RAY_GPU_SHM in .env, or --shm-size; 2 GiB for each GPU), end "
            "what fills it, or set data.num_workers to 0.",
        ),
    ]


def _finding(name: str, check: Callable[[], str], advice: str) -> MachineFinding:
    try:
        return MachineFinding(name=name, ok=True, detail=check())
    except Exception as error:
        return MachineFinding(
            name=name, ok=False, detail=f"{type(error).__name__}: {error}", advice=advice
        )


def _versions() -> str:
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    return ", ".join(f"{name} {version(name)}" for name in _PACKAGES) + f", {cuda}"


def _operators() -> str:
    # Imported here: a broken mmcv is a finding, and does not hide the others.
    from workers.machine.operators import TOLERANCE, check_operators, compiled_targets  # noqa: PLC0415

    target = compiled_targets()
    differences = check_operators(torch.device("cpu"))
    return f"compiled for {target}; {', '.join(differences)} are right to {TOLERANCE:g} on the CPU"


def _shared_memory(folder: Path, *, num_gpus: int) -> str:
    needed = max(_SHARED_MEMORY_FOR_GPU * num_gpus, _LEAST_SHARED_MEMORY)
    usage = shutil.disk_usage(folder)
    if usage.total < needed:
        raise RuntimeError(
            f"{folder} has {usage.total / _GIB:.1f} GiB; {num_gpus} GPUs and their loaders need "
            f"{needed / _GIB:.0f} GiB"
        )
    if usage.free < _LEAST_SHARED_MEMORY:
        raise RuntimeError(
            f"{folder} has {usage.free >> 20} MiB free; data loaders need about 1 GiB"
        )
    return f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB free in {folder}"
