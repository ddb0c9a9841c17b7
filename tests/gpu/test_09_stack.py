"""The whole stack trains a teacher on the CPU, without the GPU, and a student on the GPU."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from configs.metric_keys import Metric
from service.api.schemas.runs import RunRequest, RunView
from service.client import TandemClient
from service.domain.states import RunState
from tests.support.gpu.measurement import release_memory
from tests.support.stack.e2e_runs import find_trainer, wait_for
from tests.support.stack.mlflow_runs import find_mlflow_run, read_mlflow_status
from tests.support.stack.shell import Shell, start_stack_with_digits

TIMEOUT_S = 120
CUDA_FILE = "/dev/nvidia-uvm"
"""Device file that is open in processes with a CUDA context, but not by queries of the driver."""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    release_memory()
    with start_stack_with_digits(tmp_path_factory.mktemp("stack")) as stack_shell:
        yield stack_shell


@pytest.fixture
def client(shell: Shell) -> Iterator[TandemClient]:
    with TandemClient(shell.url) as tandem_client:
        yield tandem_client


@pytest.mark.gpu
def test_a_run_trains_on_the_gpu_and_one_on_the_cpu_makes_no_context_there(
    shell: Shell, client: TandemClient
) -> None:
    on_cpu, files_of_cpu_run = launch(client, "quick/instant", {"resources.num_gpus": 0})
    changes = {"resources.num_gpus": 1, "teacher": {"run": on_cpu.id}}
    on_gpu, files_of_gpu_run = launch(client, "quick/instant_bckd", changes)

    for run, device in ((on_gpu, "cuda"), (on_cpu, "cpu")):
        assert run.state is RunState.SUCCEEDED, run.message
        (attempt,) = client.attempts(run.id)
        assert (attempt.device or "").startswith(device)
    wait_for(lambda: read_mlflow_status(shell.mlflow_url, on_gpu.id) == "FINISHED")
    mlflow_run = find_mlflow_run(shell.mlflow_url, on_gpu.id)
    assert mlflow_run.data.metrics[Metric.MAP] == pytest.approx(on_gpu.latest[Metric.MAP])
    assert on_gpu.teacher_map is not None
    if CUDA_FILE not in files_of_gpu_run:
        pytest.skip(f"both runs are right, but no process shows {CUDA_FILE}: {files_of_gpu_run}")
    assert CUDA_FILE not in files_of_cpu_run


def test_files_that_a_process_has_open_are_seen(tmp_path: Path) -> None:
    process = psutil.Process()
    with Path("/dev/null").open("rb"), (tmp_path / "other").open("wb"):
        files = open_devices(process)

    assert "/dev/null" in files
    assert str(tmp_path / "other") not in files


def launch(client: TandemClient, preset: str, changes: dict[str, Any]) -> tuple[RunView, set[str]]:
    """Train a run to its end; returns it and the device files that its trainer ever had open."""
    run = client.launch(RunRequest(preset=preset, changes=changes))
    files: set[str] = set()
    deadline_s = time.monotonic() + TIMEOUT_S
    while not client.run(run.id).is_over:
        assert time.monotonic() < deadline_s, "it did not end in time"
        with suppress(psutil.NoSuchProcess):
            files |= open_devices(find_trainer(run.id))
        time.sleep(0.1)
    return client.run(run.id), files


def open_devices(process: psutil.Process) -> set[str]:
    """List a process's open device files; raises `psutil.NoSuchProcess` if it has ended."""
    folder = Path(f"/proc/{process.pid}/fd")
    files = set()
    try:
        for descriptor in folder.iterdir():
            with suppress(FileNotFoundError):
                files.add(str(descriptor.readlink()))
    except FileNotFoundError as error:
        raise psutil.NoSuchProcess(process.pid) from error
    return {file for file in files if file.startswith("/dev/")}
