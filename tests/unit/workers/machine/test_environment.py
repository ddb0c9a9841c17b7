"""What environment.json contains about the device and torch's settings."""

import json
import socket
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from configs.spec.installed_methods import MethodRelease
from workers.machine import environment
from workers.machine.environment import GpuInfo, get_gpu_info, numeric_settings, write_environment

CPU = torch.device("cpu")
GPU = torch.device("cuda", 1)


def describe_and_read(path: Path, **arguments: Any) -> dict[str, Any]:
    write_environment(path / "environment.json", **arguments)
    return dict(json.loads((path / "environment.json").read_text(encoding="utf-8")))


@pytest.fixture
def h200(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches the properties of a GPU and a driver, as torch and the kernel return them."""
    properties = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, total_memory=141 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: properties.name)
    monkeypatch.setattr(environment, "driver_version", lambda: "580.95.05")
    monkeypatch.setattr(socket, "gethostname", lambda: "node-1")


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "version", lambda package: "1.0")


@pytest.mark.usefixtures("h200", "versions")
def test_a_gpu_is_described_with_its_driver_and_libraries(tmp_path: Path) -> None:
    description = describe_and_read(tmp_path, device=GPU)

    assert description["device_name"] == "NVIDIA H200"
    assert description["gpus"] == [
        {
            "host": "node-1",
            "device": "cuda:1",
            "name": "NVIDIA H200",
            "capability": "9.0",
            "memory_bytes": 141 * 2**30,
            "driver": "580.95.05",
        }
    ]
    assert description["cuda"]["driver"] == "580.95.05"
    assert description["cuda"]["cuda"] == torch.version.cuda
    assert description["cuda"]["cudnn"].count(".") == 2
    assert description["cuda"]["nccl"].count(".") >= 2


@pytest.mark.usefixtures("versions")
def test_a_cpu_has_no_gpu_and_no_cuda(tmp_path: Path) -> None:
    description = describe_and_read(tmp_path, device=CPU)

    assert get_gpu_info(CPU) is None
    assert (description["gpus"], description["cuda"]) == ([], None)
    assert description["threads"] == torch.get_num_threads()


@pytest.mark.usefixtures("versions")
def test_the_code_of_methods_is_recorded(tmp_path: Path) -> None:
    release = MethodRelease(version="2", digest="a" * 64, needs=("features",))

    description = describe_and_read(tmp_path, device=CPU, methods={"pkd": release})

    assert description["methods"] == {"pkd": {"version": "2", "digest": "a" * 64}}
    assert describe_and_read(tmp_path, device=CPU)["methods"] == {}


@pytest.mark.usefixtures("h200", "versions")
def test_the_gpus_of_all_processes_of_a_group_are_listed(tmp_path: Path) -> None:
    gpus = [GpuInfo(f"node-{rank}", "cuda:0", "NVIDIA L4", "8.9", 24, "580.1") for rank in range(3)]

    description = describe_and_read(tmp_path, device=GPU, gpus=gpus)

    assert [gpu["host"] for gpu in description["gpus"]] == ["node-0", "node-1", "node-2"]


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_the_precision_is_that_of_the_moment(precision: str) -> None:
    settings = [torch.backends.cuda.matmul, attrgetter("cudnn.conv")(torch.backends)]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = precision
        precisions = numeric_settings()["fp32_precision"]
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value

    assert (precisions["cuda.matmul"], precisions["cudnn.conv"]) == (precision, precision)


def test_determinism_and_memory_settings_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        settings = numeric_settings()
    finally:
        torch.use_deterministic_algorithms(False)

    assert settings["deterministic_algorithms"]
    assert settings["cudnn_deterministic"]
    assert settings["cudnn_benchmark"]
    assert settings["cublas_workspace"] == ":4096:8"
    assert settings["allocator"] == "expandable_segments:True"


def test_the_newer_name_of_the_allocators_settings_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "new")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "old")

    assert numeric_settings()["allocator"] == "new"


@pytest.mark.gpu
def test_this_machines_gpu_is_described(tmp_path: Path) -> None:
    description = describe_and_read(tmp_path, device=torch.device("cuda", 0))

    (gpu,) = description["gpus"]
    assert gpu["name"] == description["device_name"] == torch.cuda.get_device_name(0)
    assert gpu["memory_bytes"] > 0
    assert gpu["driver"] == description["cuda"]["driver"]
    assert gpu["driver"] is not None
