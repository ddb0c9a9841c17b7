"""What the driver reports, read from a folder."""

from pathlib import Path

import pytest

from tests.support.workers.machines import OPEN, PROPRIETARY, write_machine
from workers.machine.driver import (
    NvmlResult,
    driver_version,
    min_driver_branch,
    query_nvml,
    read_driver,
)


@pytest.mark.parametrize("module", [PROPRIETARY, OPEN], ids=["proprietary", "open"])
@pytest.mark.parametrize("version", ["550.54.15", "580.95.05", "610.3"])
def test_the_version_is_that_of_the_kernel_module(
    tmp_path: Path, module: str, version: str
) -> None:
    assert driver_version(write_machine(tmp_path, driver=version, module=module)) == version


def test_without_a_module_there_is_no_version(tmp_path: Path) -> None:
    assert driver_version(tmp_path) is None


def test_only_gpus_count_among_the_device_files(tmp_path: Path) -> None:
    driver = read_driver(
        write_machine(tmp_path, device_files=11, driver="580.1"),
        environment={},
        ask_nvml=NvmlResult,
    )

    assert (driver.num_device_files, driver.num_gpus) == (11, 11)


def test_a_container_without_gpus_sees_its_hosts_driver_and_no_gpu(tmp_path: Path) -> None:
    driver = read_driver(
        write_machine(tmp_path, driver="580.1"), environment={}, ask_nvml=NvmlResult
    )

    assert (driver.version, driver.num_gpus) == ("580.1", 0)


def test_gpus_without_device_files_are_known_from_nvml(tmp_path: Path) -> None:
    driver = read_driver(
        write_machine(tmp_path), environment={}, ask_nvml=lambda: NvmlResult(num_gpus=2)
    )

    assert driver.num_gpus == 2


@pytest.mark.parametrize(
    ("value", "selectors"),
    [
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0,3", ("0", "3")),
        ("0,2,-1,1", ("0", "2")),
        ("GPU-8932f937, 1", ("GPU-8932f937", "1")),
        ("MIG-a1,MIG-b2", ("MIG-a1", "MIG-b2")),
        ("MIG-GPU-8932f937/1/0", ("MIG-GPU-8932f937/1/0",)),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    tmp_path: Path, value: str, selectors: tuple[str, ...]
) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": value}

    driver = read_driver(tmp_path, environment=environment, ask_nvml=NvmlResult)

    assert driver.selectors == selectors


def test_an_unset_variable_selects_nothing_in_particular(tmp_path: Path) -> None:
    assert read_driver(tmp_path, environment={}, ask_nvml=NvmlResult).selectors is None


def test_the_oldest_driver_is_that_of_the_major_version() -> None:
    assert [min_driver_branch(cuda) for cuda in ("12.4", "13.0", "13.2")] == [525, 580, 580]
    assert min_driver_branch("99.0") is None


def test_a_machine_without_nvml_has_no_gpus_and_no_error() -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has NVIDIA's driver")

    assert query_nvml() == NvmlResult()
