"""The process that examines one GPU, and how its output is interpreted."""

import sys

import pytest
import torch

from workers.machine.gpu import GpuReport, examine_gpu, examine_gpus, examine_in_process


def _examine(code: str, *, timeout_s: float = 20.0) -> GpuReport:
    return examine_in_process(
        "3", environment={}, command=(sys.executable, "-c", code), timeout_s=timeout_s
    )


def test_the_last_line_is_the_report_whatever_libraries_print() -> None:
    report = _examine("""print("noise"); print('{"name": "H200", "capability": "9.0"}')""")

    assert report == GpuReport(selector="3", name="H200", capability="9.0")
    assert report.is_usable


def test_the_process_sees_only_its_gpu() -> None:
    code = """import os; print('{"name": "%s"}' % os.environ["CUDA_VISIBLE_DEVICES"])"""

    assert _examine(code).name == "3"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise SystemExit('no mmcv')", "exit code 1: no mmcv"),
        ("import os; os.abort()", "exit code -6"),
        ("print('{}x')", "exit code 0: {}x"),
        ("", "exit code 0: no output"),
    ],
)
def test_a_process_that_ends_without_a_report_is_an_error(code: str, text: str) -> None:
    report = _examine(code)

    assert text in report.error
    assert not report.is_usable


def test_a_process_that_hangs_is_an_error() -> None:
    report = _examine("import time; time.sleep(60)", timeout_s=0.5)

    assert report.error == "no answer within 0.5 s"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_torch_does_not_see_is_reported_by_the_real_process() -> None:
    (report,) = examine_gpus(["0"], is_from_environment=True)

    assert report.selector == "0"
    assert "NVIDIA driver" in report.error


@pytest.mark.gpu
def test_every_gpu_of_this_machine_computes_what_the_reference_says() -> None:
    selectors = [str(index) for index in range(torch.cuda.device_count())]

    reports = examine_gpus(selectors, is_from_environment=False)

    assert [report.error for report in reports] == [""] * len(selectors)
    assert all(report.name and report.memory_bytes > 0 for report in reports)
    assert all(len(report.differences) == 5 for report in reports)


def test_only_the_first_line_of_an_error_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: no kernel image\nCUDA kernel errors might be ...")

    monkeypatch.setattr(torch.cuda, "init", fail)

    assert examine_gpu(torch.device("cuda", 0)).error == "CUDA error: no kernel image"
