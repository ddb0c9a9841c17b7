"""GPUs of the driver compared with torch's, and shared memory, on simulated machines."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path

import pytest

import workers.cli.doctor
from configs.protocol.names import GPUS_FINDING
from tests.support.workers.machines import make_doctor_environment, make_usable_gpu, write_machine
from workers.cli.doctor import DoctorEnvironment, run_checks
from workers.machine.driver import NvmlResult, read_driver
from workers.machine.finding import MachineFinding
from workers.machine.gpu import GpuReport
from workers.machine.gpu_findings import TorchBuild, examine_machine
from workers.machine.proof import describe_circumstances, read_proof

TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040)."
NOT_READY = "Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"
GIB = 2**30
ROOT = Path(__file__).parents[4]
Usage = namedtuple("Usage", ["total", "used", "free"])


def gpu_findings(inputs: DoctorEnvironment) -> list[MachineFinding]:
    driver = read_driver(inputs.root, environment=inputs.environment, ask_nvml=inputs.ask_nvml)
    assert inputs.torch_build is not None
    examination = examine_machine(
        driver,
        environment=inputs.environment,
        torch_build=inputs.torch_build,
        examine=inputs.examine,
    )
    return list(examination.findings())


def compare_gpus(inputs: DoctorEnvironment) -> MachineFinding:
    first = gpu_findings(inputs)[0]
    assert first.name == GPUS_FINDING
    return first


def test_a_machine_without_gpus_is_fit(tmp_path: Path) -> None:
    finding = compare_gpus(make_doctor_environment(write_machine(tmp_path)))

    assert finding.ok
    assert "CPU" in finding.detail


def test_every_gpu_is_named_with_capability_memory_and_driver(tmp_path: Path) -> None:
    root = write_machine(tmp_path, device_files=2, driver="580.95.05")

    summary, *each = gpu_findings(make_doctor_environment(root, nvml=NvmlResult(num_gpus=2)))

    assert summary.ok
    assert "all 2" in summary.detail
    assert [finding.name for finding in each] == ["GPU 0", "GPU 1"]
    for finding in each:
        assert finding.ok
        for text in ("NVIDIA H200", "9.0", "141.0 GiB", "580.95.05", "nms", "conv2d"):
            assert text in finding.detail


def test_gpus_that_torch_cannot_see_are_a_fault_that_names_the_driver(tmp_path: Path) -> None:
    root = write_machine(tmp_path, device_files=1, driver="550.54.15")

    finding = compare_gpus(make_doctor_environment(root, errors={"0": TOO_OLD}))

    assert not finding.ok
    assert "Driver 580 or newer is needed for CUDA 13.0, found 550.54.15" in finding.detail
    assert "580" in finding.advice


def test_a_gpu_that_only_nvml_shows_is_a_fault_if_torch_cannot_use_it(tmp_path: Path) -> None:
    inputs = make_doctor_environment(
        write_machine(tmp_path), nvml=NvmlResult(num_gpus=1), errors={"0": "none"}
    )

    assert not compare_gpus(inputs).ok


def test_an_older_driver_that_works_is_no_fault(tmp_path: Path) -> None:
    root = write_machine(tmp_path, device_files=1, driver="570.1")

    finding = compare_gpus(make_doctor_environment(root))

    assert finding.ok
    assert "580" in finding.detail


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (NOT_READY, "fabricmanager"),
        ("CUDA error 803: system has unsupported display driver / cuda driver combination", "two"),
        ("Error 804: forward compatibility was attempted on non supported HW", "cuda-compat"),
        ("CUDA unknown error - this may be due to an incorrectly set up environment", "nvidia_uvm"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "compute mode"),
        ("CUDA out of memory. Tried to allocate 20.00 MiB.", "Other processes"),
        ("CUDA error: no kernel image is available for execution", "CUDA_ARCHITECTURES"),
        ("mmcv-full was compiled without operators for GPUs", "FORCE_CUDA=1"),
        ("nms_impl: implementation for device cuda:0 not found.", "FORCE_CUDA=1"),
        ("No CUDA GPUs are available", "/dev/nvidia"),
        ("no answer within 90 s", "dmesg"),
        ("conv2d on cuda:0 differs from its reference by 0.3, allowed are 0.0001", "ECC"),
        ("CUDA error: uncorrectable NVLink error", "nvidia-smi"),
    ],
)
def test_every_known_cause_has_advice_of_its_own(tmp_path: Path, error: str, advice: str) -> None:
    root = write_machine(tmp_path, device_files=1, driver="580.95.05")

    finding = compare_gpus(make_doctor_environment(root, errors={"0": error}))

    assert not finding.ok
    assert error in finding.detail
    assert advice in finding.advice


def test_a_broken_gpu_among_others_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    root = write_machine(tmp_path, device_files=4, driver="580.95.05")

    summary, *each = gpu_findings(make_doctor_environment(root, errors={"2": NOT_READY}))

    assert not summary.ok
    assert "3 of 4 GPUs can be used; GPU 2: " in summary.detail
    assert "CUDA_VISIBLE_DEVICES=0,1,3" in summary.advice
    assert [finding.name for finding in each] == ["GPU 0", "GPU 1", "GPU 3"]


def test_gpus_with_the_same_error_are_reported_together(tmp_path: Path) -> None:
    root = write_machine(tmp_path, device_files=3, driver="580.95.05")
    errors = dict.fromkeys(("0", "1", "2"), NOT_READY)

    assert (
        f"GPU 0, 1, 2: {NOT_READY}"
        in compare_gpus(make_doctor_environment(root, errors=errors)).detail
    )


def test_a_gpu_that_torch_sees_and_that_fails_an_operator_has_a_finding(tmp_path: Path) -> None:
    report = make_usable_gpu("0").model_copy(update={"error": "no kernel image is available"})
    driver = read_driver(write_machine(tmp_path, device_files=1), environment={})

    examination = examine_machine(
        driver,
        environment={},
        torch_build=TorchBuild(cuda="13.0", count_gpus=lambda: 1),
        examine=lambda selectors, is_from_environment: [report],
    )

    summary, gpu = examination.findings()
    assert not summary.ok
    assert not gpu.ok
    assert "NVIDIA H200" in gpu.detail
    assert "CUDA_ARCHITECTURES" in gpu.advice


@pytest.mark.parametrize("value", ["", "-1"])
def test_a_node_for_the_cpu_on_purpose_is_fit_and_no_gpu_is_tried(
    tmp_path: Path, value: str
) -> None:
    calls: list[tuple[str, ...]] = []
    root = write_machine(tmp_path, device_files=2, driver="550.1")

    finding = compare_gpus(
        make_doctor_environment(
            root, environment={"CUDA_VISIBLE_DEVICES": value}, torch_gpus=2, calls=calls
        )
    )

    assert finding.ok
    assert "CUDA_VISIBLE_DEVICES" in finding.detail
    assert calls == []


def test_a_node_limited_on_purpose_has_its_own_gpus_tried_only(tmp_path: Path) -> None:
    calls: list[tuple[str, ...]] = []
    root = write_machine(tmp_path, device_files=8, driver="580.1")

    finding = compare_gpus(
        make_doctor_environment(root, environment={"CUDA_VISIBLE_DEVICES": "1,MIG-a"}, calls=calls)
    )

    assert finding.ok
    assert calls == [("1", "MIG-a", "is_from_environment=True")]


def test_all_gpus_are_examined_by_default(tmp_path: Path) -> None:
    calls: list[tuple[str, ...]] = []

    compare_gpus(make_doctor_environment(write_machine(tmp_path), torch_gpus=2, calls=calls))

    assert calls == [("0", "1", "is_from_environment=False")]


@pytest.mark.parametrize(("offered", "is_ok"), [("1", True), ("2", True), ("3", False)])
def test_a_node_that_offers_more_gpus_than_it_has_is_a_fault(
    tmp_path: Path, offered: str, is_ok: bool
) -> None:
    root = write_machine(tmp_path, device_files=2, driver="580.1")

    finding = compare_gpus(make_doctor_environment(root, environment={"RAY_WORKER_GPUS": offered}))

    assert finding.ok is is_ok
    assert is_ok or "RAY_WORKER_GPUS is 3" in finding.detail


@pytest.mark.parametrize(
    ("num_gpus", "total_gib", "free_gib", "is_ok"),
    [
        (0, 1, 1, True),
        (0, 0.5, 0.5, False),
        (1, 2, 2, True),
        (1, 1.9, 1.9, False),
        (8, 16, 16, True),
        (8, 15.9, 15.9, False),
        (8, 16, 0.9, False),
        (8, 16, 3, True),
    ],
)
def test_shared_memory_has_two_gib_for_each_gpu_and_one_at_least(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_gpus: int,
    total_gib: float,
    free_gib: float,
    is_ok: bool,
) -> None:
    root = write_machine(tmp_path, device_files=num_gpus, driver="580.1")
    usage = Usage(total_gib * GIB, (total_gib - free_gib) * GIB, int(free_gib * GIB))
    monkeypatch.setattr(shutil, "disk_usage", {root / "dev" / "shm": usage}.get)
    monkeypatch.setattr(workers.cli.doctor, "_check_operators", lambda: "not of interest")

    findings = {finding.name: finding for finding in run_checks(make_doctor_environment(root))}

    assert findings["shared memory"].ok is is_ok
    assert is_ok or "RAY_GPU_SHM" in findings["shared memory"].advice


def test_all_checks_run_on_this_machine(tmp_path: Path) -> None:
    proof_file = tmp_path / "proof.json"
    circumstances = describe_circumstances()  # OpenCV changes some of them when it is imported

    findings = run_checks(proof_file=proof_file)
    proof = read_proof(proof_file, circumstances)

    names = [finding.name for finding in findings]
    assert names[:3] == ["versions", "mmcv operators", GPUS_FINDING]
    assert names[-1] == "shared memory"
    assert "modulated_deform_conv2d" in findings[1].detail
    assert proof is not None
    assert list(proof.findings) == findings[:2]
    for name in ("mmcv/_ext.", "torch/lib/libtorch_cpu.so", "mmdet/__init__.py", "operators.py"):
        assert any(name in path for path in proof.files), name


def test_a_broken_mmcv_does_not_hide_the_other_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "workers.machine.operators", None)

    findings = {
        finding.name: finding
        for finding in run_checks(make_doctor_environment(write_machine(tmp_path)))
    }

    assert not findings["mmcv operators"].ok
    assert "make clean setup" in findings["mmcv operators"].advice
    assert findings[GPUS_FINDING].ok


@pytest.fixture
def uncompiled_mmcv(tmp_path: Path) -> Path:
    """A folder with mmcv without its compiled module, like mmcv-lite."""
    spec = find_spec("mmcv")
    assert spec is not None
    assert spec.submodule_search_locations
    package = tmp_path / "mmcv"
    package.mkdir()
    for file in Path(spec.submodule_search_locations[0]).iterdir():
        if not file.name.startswith("_ext."):
            (package / file.name).symlink_to(file)
    return package


EXAMINE = """\
import importlib, pathlib, sys
import workers.cli.doctor

def examine_with(stand_in):
    if stand_in:
        pathlib.Path(sys.argv[1]).write_text(stand_in)
    importlib.invalidate_caches()
    for name in list(sys.modules):
        if name.partition(".")[0] == "mmcv" or name == "workers.machine.operators":
            del sys.modules[name]
    (finding,) = [each for each in workers.cli.doctor.run_checks() if each.name == "mmcv operators"]
    print(finding.ok, finding.detail, finding.advice, sep="; ")

for stand_in in sys.argv[2:]:
    examine_with(stand_in)
"""
"""Prints the doctor's result for each text of mmcv/_ext.py; an empty text is a missing file.

It runs in one process, because importing torch takes seconds.
"""

STAND_INS = {
    "": "No module named 'mmcv._ext'",
    "nms = None": "miss in module _ext",
    "def __getattr__(name): return lambda *inputs, **settings: None": "this is not mmcv-full",
}
"""Texts of mmcv/_ext.py, and the expected results."""


def test_a_stand_in_for_the_compiled_mmcv_is_a_fault(uncompiled_mmcv: Path) -> None:
    paths = f"{uncompiled_mmcv.parent}{os.pathsep}{ROOT}"

    result = subprocess.run(
        [sys.executable, "-c", EXAMINE, str(uncompiled_mmcv / "_ext.py"), *STAND_INS],
        env={**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )

    findings = result.stdout.splitlines()
    for finding, detail in zip(findings, STAND_INS.values(), strict=True):
        assert finding.startswith("False; ")
        assert detail in finding
        assert "make clean setup" in finding


def test_a_report_of_a_gpu_survives_json() -> None:
    report = make_usable_gpu("MIG-a")

    assert GpuReport.model_validate_json(report.model_dump_json()) == report
