"""`tandem-worker doctor`: runs what training needs of a machine, and reports findings."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

from workers.machine.driver import NvmlResult, query_nvml, read_driver
from workers.machine.extension import compiled_targets
from workers.machine.finding import MachineFinding
from workers.machine.gpu import GpuReport, examine_gpus
from workers.machine.gpu_findings import TorchBuild, examine_machine

_GIB = 1 << 30
_SHARED_MEMORY_FOR_GPU = 2 * _GIB
"""For data loaders and NCCL: 4 loader workers prefetch 1.65 GiB of COCO images in batches of 16."""

_MIN_SHARED_MEMORY = _GIB
_PACKAGES = ("torch", "mmcv-full", "mmdet", "numpy")


@dataclass(frozen=True)
class DoctorEnvironment:
    """What the checks read; tests pass another one."""

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    ask_nvml: Callable[[], NvmlResult] = query_nvml
    torch_build: TorchBuild = field(default_factory=TorchBuild)
    examine: Callable[..., Sequence[GpuReport]] = examine_gpus


def run_checks(
    machine: DoctorEnvironment | None = None, *, is_quick: bool = False
) -> list[MachineFinding]:
    """Run all checks; a failed one does not prevent the others.

    `is_quick`: load mmcv's operators, but do not compare their results on the CPU.
    """
    machine = machine or DoctorEnvironment()
    driver = read_driver(machine.root, environment=machine.environment, ask_nvml=machine.ask_nvml)
    gpus = examine_machine(
        driver,
        environment=machine.environment,
        torch_build=machine.torch_build,
        examine=machine.examine,
    )
    shared_memory = machine.root / "dev" / "shm"
    return [
        _run_check("versions", _describe_versions, "Run `make setup`."),
        _run_check(
            "mmcv operators",
            _load_operators if is_quick else _check_operators,
            "Run `make clean setup`: mmcv-full was built for another torch.",
        ),
        *gpus.findings(),
        _run_check(
            "shared memory",
            lambda: _check_shared_memory(shared_memory, num_gpus=len(gpus.reports)),
            "Give the container more (RAY_GPU_SHM in .env, or --shm-size; 2 GiB for each GPU), "
            "remove what fills it, or set data.num_workers to 0.",
        ),
    ]


def _run_check(name: str, check: Callable[[], str], advice: str) -> MachineFinding:
    try:
        return MachineFinding(name=name, ok=True, detail=check())
    except Exception as error:
        return MachineFinding(
            name=name, ok=False, detail=f"{type(error).__name__}: {error}", advice=advice
        )


def _describe_versions() -> str:
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    return ", ".join(f"{name} {version(name)}" for name in _PACKAGES) + f", {cuda}"


def _load_operators() -> str:
    return f"compiled for {compiled_targets()}; loaded, results not compared"


def _check_operators() -> str:
    # Imported here, so that a broken mmcv is a finding and does not prevent the others.
    from workers.machine.operators import TOLERANCE, check_operators  # noqa: PLC0415

    target = compiled_targets()
    differences = check_operators(torch.device("cpu"))
    return (
        f"compiled for {target}; {', '.join(differences)} are correct to {TOLERANCE:g} on the CPU"
    )


def _check_shared_memory(folder: Path, *, num_gpus: int) -> str:
    required = max(_SHARED_MEMORY_FOR_GPU * num_gpus, _MIN_SHARED_MEMORY)
    usage = shutil.disk_usage(folder)
    if usage.total < required:
        raise RuntimeError(
            f"{folder} has {usage.total / _GIB:.1f} GiB; {num_gpus} GPUs and their loaders need "
            f"{required / _GIB:.0f} GiB"
        )
    if usage.free < _MIN_SHARED_MEMORY:
        raise RuntimeError(
            f"{folder} has {usage.free >> 20} MiB free; data loaders need about 1 GiB"
        )
    return f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB free in {folder}"
