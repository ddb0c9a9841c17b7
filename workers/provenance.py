"""Where a run's numbers come from: versions, machine, device."""

import json
import os
import platform
import socket
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

_PACKAGES = ("torch", "torchvision", "mmdet", "mmcv-full", "numpy", "pycocotools", "tandem-distill")


@dataclass(frozen=True)
class Whereabouts:
    """The process that trains."""

    host: str
    pid: int
    device: str
    versions: dict[str, str]


def whereabouts(device: torch.device) -> Whereabouts:
    """This process, and versions of everything a number depends on."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    return Whereabouts(socket.gethostname(), os.getpid(), str(device), versions)


def write_environment(path: Path, *, device: torch.device) -> None:
    """Versions, machine and device as JSON."""
    here = whereabouts(device)
    facts = {
        "versions": here.versions,
        "host": here.host,
        "platform": platform.platform(),
        "device": here.device,
        "device_name": _name_of(device),
        "threads": torch.get_num_threads(),
    }
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
