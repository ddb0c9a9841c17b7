"""Where a run's numbers come from: versions, machine, device."""

import json
import platform
import socket
from importlib.metadata import version
from pathlib import Path

import torch

_PACKAGES = ("torch", "torchvision", "mmdet", "mmcv-full", "numpy", "pycocotools", "tandem-distill")


def versions() -> dict[str, str]:
    """Versions of what a number depends on."""
    found = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def write_environment(path: Path, *, device: torch.device) -> None:
    """Versions, machine and device as JSON."""
    facts = {
        "versions": versions(),
        "host": host(),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "threads": torch.get_num_threads(),
    }
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _cpu_name() -> str:
    return platform.processor() or platform.machine()
