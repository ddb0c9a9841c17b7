"""What NVIDIA's driver says of this machine, asked without torch and without CUDA."""

import ctypes
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
"""The first driver branch that runs programs of a CUDA major version.

Source: CUDA Compatibility, table 1 (docs.nvidia.com/deploy/cuda-compatibility).
"""

_NVML_LIBRARY = "libnvidia-ml.so.1"
_DEVICE_SELECTOR = re.compile(r"\d+|(?:GPU|MIG)-\S+")


@dataclass(frozen=True)
class NvmlResult:
    """What NVML, the library behind `nvidia-smi`, answered. Ray counts a node's GPUs by it."""

    num_gpus: int = 0
    error: str = ""
    """Why it did not answer; empty where it did, and where it is not installed."""


@dataclass(frozen=True)
class DriverInfo:
    """GPUs as the driver shows them."""

    version: str | None
    """Of the loaded kernel module, as "580.95.05"; none: no module is loaded."""

    num_device_files: int
    """Files /dev/nvidia0, /dev/nvidia1, ...: GPUs that this machine or container was given."""

    nvml: NvmlResult
    selectors: tuple[str, ...] | None
    """What CUDA_VISIBLE_DEVICES names: indices, or UUIDs of GPUs or MIG slices.

    Empty: it hides every GPU. None: it is not set.
    """

    @property
    def num_gpus(self) -> int:
        """GPUs that the driver shows, usable or not; MIG slices are not counted."""
        return max(self.num_device_files, self.nvml.num_gpus)


def read_driver(
    root: Path = Path("/"),
    *,
    environment: Mapping[str, str] = os.environ,
    ask_nvml: Callable[[], NvmlResult] | None = None,
) -> DriverInfo:
    """The driver's view of the machine whose `/dev` and `/proc` are below `root`.

    Whether GPUs are there is not read from /proc: a container without GPUs has its host's.
    """
    return DriverInfo(
        version=driver_version(root),
        num_device_files=len(list(root.glob("dev/nvidia[0-9]*"))),
        nvml=(ask_nvml or query_nvml)(),
        selectors=_selectors(environment.get("CUDA_VISIBLE_DEVICES")),
    )


def driver_version(root: Path = Path("/")) -> str | None:
    """The version of the loaded kernel module, as "580.95.05"; none: there is none."""
    with suppress(OSError):
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8")
        if match := re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text):
            return match[1]
    return None


def min_driver_branch(cuda: str) -> int | None:
    """The driver branch that a CUDA version as "13.0" needs at least; none: not known."""
    return _OLDEST_DRIVER.get(int(cuda.split(".")[0]))


def query_nvml() -> NvmlResult:
    """How many GPUs NVML counts. CUDA_VISIBLE_DEVICES does not change the number."""
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
    """CUDA reads the list up to the first entry that names no device."""
    if value is None:
        return None
    selectors: list[str] = []
    for entry in value.split(","):
        if not _DEVICE_SELECTOR.fullmatch(entry.strip()):
            break
        selectors.append(entry.strip())
    return tuple(selectors)
