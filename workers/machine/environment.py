"""Records what a run's numbers depend on: versions, machine, device, numeric settings."""

import json
import os
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from configs.atomic_files import write_atomically
from configs.spec.installed_methods import MethodRelease
from workers.machine.driver import driver_version

_PACKAGES = ("torch", "torchvision", "mmdet", "mmcv-full", "numpy", "pycocotools", "tandem-distill")
_FP32_SETTINGS = ("cuda.matmul", "cudnn", "cudnn.conv")
_ALLOCATOR_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


@dataclass(frozen=True)
class ProcessInfo:
    """Where a training process runs, with versions of everything its numbers depend on."""

    host: str
    pid: int
    device: str
    versions: dict[str, str]


@dataclass(frozen=True)
class GpuInfo:
    """A GPU that a process computes on."""

    host: str
    device: str
    """The name in torch, as "cuda:0"."""

    name: str
    capability: str
    """The compute capability, as "9.0"."""

    memory_bytes: int
    driver: str | None
    """The version of the host's kernel module."""


def get_process_info(device: torch.device) -> ProcessInfo:
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    return ProcessInfo(socket.gethostname(), os.getpid(), str(device), versions)


def get_gpu_info(device: torch.device) -> GpuInfo | None:
    """None if the device is a CPU."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return GpuInfo(
        host=socket.gethostname(),
        device=str(device),
        name=properties.name,
        capability=f"{properties.major}.{properties.minor}",
        memory_bytes=properties.total_memory,
        driver=driver_version(),
    )


def write_environment(
    path: Path,
    *,
    device: torch.device,
    gpus: Sequence[GpuInfo | None] | None = None,
    methods: Mapping[str, MethodRelease] | None = None,
) -> None:
    """Write versions, machine, device and numeric settings as JSON.

    Call it after `prepare_device`, because the settings are read from torch. `gpus`: those of all
    training processes, by rank; None in a run of one process. `methods`: the releases of the
    distillation methods by name; None without any.
    """
    process = get_process_info(device)
    devices = [get_gpu_info(device)] if gpus is None else gpus
    facts = {
        "versions": process.versions,
        "methods": {
            name: release.model_dump(include={"version", "digest"})
            for name, release in (methods or {}).items()
        },
        "host": process.host,
        "platform": platform.platform(),
        "device": process.device,
        "device_name": _device_name(device),
        "threads": torch.get_num_threads(),
        "gpus": [asdict(gpu) for gpu in devices if gpu is not None],
        "cuda": cuda_versions() if device.type == "cuda" else None,
        "numerics": numeric_settings(),
    }
    write_atomically(path, json.dumps(facts, indent=2) + "\n")


def cuda_versions() -> dict[str, str | None]:
    """Versions of CUDA and of the libraries that torch calls on a GPU."""
    return {
        "driver": driver_version(),
        "cuda": torch.version.cuda,
        "cudnn": _cudnn_version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
    }


def numeric_settings() -> dict[str, Any]:
    """Current settings of torch that change numbers or memory use on a GPU.

    `fp32_precision` is "ieee" (fp32), "tf32", or "none" (torch's general setting, fp32 by default).
    """
    matmul = torch.backends.cuda.matmul
    return {
        "fp32_precision": {
            name: attrgetter(f"{name}.fp32_precision")(torch.backends) for name in _FP32_SETTINGS
        },
        "reduced_precision_reduction": {
            "fp16": matmul.allow_fp16_reduced_precision_reduction,
            "bf16": matmul.allow_bf16_reduced_precision_reduction,
        },
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "allocator": next(
            (os.environ[name] for name in _ALLOCATOR_SETTINGS if name in os.environ), None
        ),
    }


def _cudnn_version() -> str | None:
    """As "9.24.0"; None if torch was built without cuDNN."""
    number = torch.backends.cudnn.version()
    if number is None:
        return None
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
