"""Machines with and without GPUs, as files below a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from workers.cli.doctor import DoctorEnvironment
from workers.machine.driver import NvmlResult
from workers.machine.gpu import GpuReport
from workers.machine.gpu_findings import TorchBuild

PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Mar  4 10:00:00 UTC 2026\n"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder)\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)


def write_machine(
    root: Path, *, device_files: int = 0, driver: str | None = None, module: str = OPEN
) -> Path:
    """Write a root folder with /dev/nvidia* and /proc/driver/nvidia like a loaded driver."""
    (root / "dev" / "shm").mkdir(parents=True)
    for name in ("nvidiactl", "nvidia-uvm", "nvidia-modeset"):
        if device_files:
            (root / "dev" / name).touch()
    for index in range(device_files):
        (root / "dev" / f"nvidia{index}").touch()
    if driver is not None:
        (root / "proc/driver/nvidia").mkdir(parents=True)
        (root / "proc/driver/nvidia/version").write_text(module.format(driver))
    return root


def make_usable_gpu(selector: str) -> GpuReport:
    """Make the report of a GPU that passes all checks."""
    return GpuReport(
        selector=selector,
        name="NVIDIA H200",
        capability="9.0",
        memory_bytes=141 * 2**30,
        differences={"nms": 0.0, "conv2d": 2e-7},
    )


def make_examine(
    errors: dict[str, str], *, calls: list[tuple[str, ...]] | None = None
) -> Callable[..., list[GpuReport]]:
    """Make an `examine` in which the GPUs in `errors` fail before torch knows their name."""

    def examine(selectors: Sequence[str], *, is_from_environment: bool) -> list[GpuReport]:
        if calls is not None:
            calls.append((*selectors, f"is_from_environment={is_from_environment}"))
        return [
            GpuReport(selector=selector, error=errors[selector])
            if selector in errors
            else make_usable_gpu(selector)
            for selector in selectors
        ]

    return examine


def make_doctor_environment(
    root: Path,
    *,
    environment: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    nvml: NvmlResult | None = None,
    torch_gpus: int = 0,
    calls: list[tuple[str, ...]] | None = None,
) -> DoctorEnvironment:
    """Make the environment of a machine below `root` with torch for CUDA 13.0."""
    return DoctorEnvironment(
        root=root,
        environment=environment or {},
        ask_nvml=lambda: nvml or NvmlResult(),
        torch_build=TorchBuild(cuda="13.0", count_gpus=lambda: torch_gpus),
        examine=make_examine(errors or {}, calls=calls),
    )
