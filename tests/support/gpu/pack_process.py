"""A process that trains a pack whose members do not all fit into a GPU.

`python -m tests.support.gpu.pack_process FOLDER` reads the members' specs by name from
FOLDER/members.json. It trains the first one by itself (FOLDER/alone) and all of them
(FOLDER/together), and then all of them with less memory than that took (FOLDER/limited), which
torch's allocator enforces for this process. What it measured is in
FOLDER/memory.json. On a CPU nothing is measured or limited.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tests.support.gpu.measurement import measure_peak_bytes, release_memory
from tests.support.training.packs import train_in_process

FURTHER_MEMBERS_FRACTION = 0.75
"""Fraction of the bytes of further members within the limit: of two, one and a half fit."""


@dataclass(frozen=True)
class PackMemory:
    """Peaks of the bytes in tensors, and the limit of the third training."""

    first_bytes: int
    all_bytes: int
    limit: int


def train_with_too_little_memory(
    folder: Path, members: Mapping[str, dict[str, Any]], *, device: torch.device
) -> PackMemory:
    """Train the pack as the module docstring says; `device` is that of the members' specs."""
    first = next(iter(members))
    first_bytes = measure_peak_bytes(
        lambda: train_in_process(folder / "alone", {first: members[first]}), device
    )
    release_memory()
    all_bytes = measure_peak_bytes(
        lambda: train_in_process(folder / "together", dict(members)), device
    )
    release_memory()
    limit = first_bytes + int(FURTHER_MEMBERS_FRACTION * (all_bytes - first_bytes))
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(limit / total, device)
    train_in_process(folder / "limited", dict(members))
    return PackMemory(first_bytes, all_bytes, limit)


def main(folder: Path) -> None:
    """Read the members, train, and write what was measured."""
    members = json.loads((folder / "members.json").read_text())
    uses_gpu = next(iter(members.values()))["resources"]["num_gpus"] > 0
    device = torch.device("cuda", 0) if uses_gpu else torch.device("cpu")
    memory = train_with_too_little_memory(folder, members, device=device)
    (folder / "memory.json").write_text(json.dumps(asdict(memory)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
