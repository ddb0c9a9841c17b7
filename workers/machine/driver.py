"""Queries NVIDIA's driver on this machine, without torch and without CUDA."""

import ctypes
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MIN_DRIVER_BRANCH = {11: 450, 12: 525, 13: 580}
"""By CUDA major version, the first driver branch that runs programs of it.

Source: CUDA Compatibility, table 1 (docs.nvidia.com/deploy/cuda-compatibility).
"""

_NVML_LIBRARY = "libnvidia-ml.so.1"
_DEVICE_SELECTOR = re.compile(r"\d+|(?:GPU|MIG)-\S+")


@dataclass(frozen=True)
class NvmlResult:
    """Result of NVML, the library behind `nvidia-smi`, with which Ray counts a node's GPUs."""

    num_gpus: int = 0
    error: str = ""
    """Empty if the call succeeded, or if NVML is not installed."""


@dataclass(frozen=True)
class DriverInfo:
    """The driver's version, and the GPUs that it shows."""

    version: str | None
    """Of the loaded kernel module, as "580.95.05"; None if no module is loaded."""

    num_device_files: int
    """Files /dev/nvidia0, /dev/nvidia1, ...: the GPUs of this machine or container."""

    nvml: NvmlResult
    selectors: tuple[str, ...] | None
    """Indices, or UUIDs of GPUs or MIG slices, in CUDA_VISIBLE_DEVICES.

    Empty if it hides every GPU; None if it is not set.
    """

    @property
    def num_gpus(self) -> int:
        """GPUs that the driver shows, usable or not, without MIG slices."""
        return max(self.num_device_files, self.nvml.num_gpus)


def read_driver(
    root: Path = Path("/"),
    *,
    environment: Mapping[str, str] = os.environ,
    ask_nvml: Callable[[], NvmlResult] | None = None,
) -> DriverInfo:
    """Reads the driver of the machine whose `/dev` and `/proc` are below `root`.

    GPUs are not counted in /proc, because a container without GPUs shows those of its host.
    """
    return DriverInfo(
        version=driver_version(root),
        num_device_files=len(list(root.glob("dev/nvidia[0-9]*"))),
        nvml=(ask_nvml or query_nvml)(),
        selectors=_selectors(environment.get("CUDA_VISIBLE_DEVICES")),
    )


def driver_version(root: Path = Path("/")) -> str | None:
    """The version of the loaded kernel module, as "580.95.05"; None if none is loaded."""
    with suppress(OSError):
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8")
        if match := re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text):
            return match[1]
    return None


def min_driver_branch(cuda: str) -> int | None:
    """The oldest driver branch for a CUDA version as "13.0"; None if it is not known."""
    return _MIN_DRIVER_BRANCH.get(int(cuda.split(".")[0]))


def query_nvml() -> NvmlResult:
    """Counts GPUs with NVML, which ignores CUDA_VISIBLE_DEVICES."""
    try:
        library = ctypes.CDLL(_NVML_LIBRARY)
    except OSError:
        return NvmlResult()
    if status := library.nvmlInit_v2():
        return NvmlResult(error=_nvml_error(library, status))
    try:
        count = ctypes.c_uint()
        if status := library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return NvmlResult(error=_nvml_error(library, status))
        return NvmlResult(num_gpus=count.value)
    finally:
        library.nvmlShutdown()


def _nvml_error(library: ctypes.CDLL, status: int) -> str:
    library.nvmlErrorString.restype = ctypes.c_char_p
    return f"NVML error {status}: {library.nvmlErrorString(status).decode()}"


def _selectors(value: str | None) -> tuple[str, ...] | None:
    """Parses as CUDA does: the list ends at the first entry that is not a device."""
    if value is None:
        return None
    selectors: list[str] = []
    for entry in value.split(","):
        if not _DEVICE_SELECTOR.fullmatch(entry.strip()):
            break
        selectors.append(entry.strip())
    return tuple(selectors)
