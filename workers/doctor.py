"""What training needs of a machine, tried and not only looked up."""

import shutil
from collections.abc import Callable

import mmcv
import mmdet
import numpy as np
import torch
from mmcv.ops import nms

from configs.spec import Contract

_LEAST_SHARED_MEMORY = 1 << 30


class Finding(Contract):
    """One check: whether it went well, what was seen, and what to do if not."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


def examine() -> list[Finding]:
    """All checks; none stops the others."""
    checks: list[tuple[str, Callable[[], str], str]] = [
        ("versions", _versions, "Run `make setup`."),
        (
            "mmcv operators",
            _operators,
            "Run `make clean setup`: mmcv-full was built for another torch.",
        ),
        ("devices", _devices, "Install a driver that fits torch's CUDA, or train on the CPU."),
        (
            "shared memory",
            _shared_memory,
            "Set data.loader_workers to 0, or give the container --shm-size=2g.",
        ),
    ]
    return [_finding(name, check, advice) for name, check, advice in checks]


def _finding(name: str, check: Callable[[], str], advice: str) -> Finding:
    try:
        return Finding(name=name, ok=True, detail=check())
    except Exception as error:
        return Finding(
            name=name, ok=False, detail=f"{type(error).__name__}: {error}", advice=advice
        )


def _versions() -> str:
    return (
        f"torch {torch.__version__}, mmcv-full {mmcv.__version__}, mmdet {mmdet.__version__}, "
        f"numpy {np.__version__}"
    )


def _operators() -> str:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    _, kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    if kept.tolist() != [0, 2]:
        raise RuntimeError(f"nms kept {kept.tolist()} instead of [0, 2]")
    return "the compiled nms runs"


def _devices() -> str:
    if not torch.cuda.is_available():
        return "no GPU; training runs on the CPU"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    torch.zeros(1, device="cuda").item()
    return ", ".join(names)


def _shared_memory() -> str:
    free = shutil.disk_usage("/dev/shm").free
    if free < _LEAST_SHARED_MEMORY:
        raise RuntimeError(f"/dev/shm has {free >> 20} MiB free; data loaders need about 1 GiB")
    return f"{free >> 20} MiB free in /dev/shm"
