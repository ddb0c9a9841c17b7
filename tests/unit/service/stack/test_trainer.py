"""Whether Ray may offer this machine's GPUs to runs."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from configs.protocol.names import GPUS_FINDING
from service.stack.components import StackConfig, build_components, prepare_component
from service.stack.trainer import CheckResult, check_gpus
from tests.support.stack.configs import make_stack_config

Run = Callable[..., subprocess.CompletedProcess[str]]
FAILED_CHECK = CheckResult(
    GPUS_FINDING, ok=False, detail="0 of 1 GPUs can be used", advice="Install it."
)


@pytest.fixture
def config(tmp_path: Path) -> StackConfig:
    return make_stack_config(tmp_path, env={})


def make_worker_doctor(*results: CheckResult) -> Run:
    """A fake of `tandem-worker doctor --json` with these results."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command == ["/env/bin/tandem-worker", "doctor", "--json", "--reuse-proof"]
        document = json.dumps([vars(result) for result in results])
        return subprocess.CompletedProcess(command, 0, document, "")

    return run


def must_not_run(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
    raise AssertionError("the worker must not be started")


def make_machine(tmp_path: Path, *names: str) -> Path:
    (tmp_path / "dev").mkdir()
    for name in names:
        (tmp_path / "dev" / name).touch()
    return tmp_path


def test_without_a_gpu_the_worker_is_not_started(config: StackConfig, tmp_path: Path) -> None:
    root = make_machine(tmp_path, "nvidiactl", "null")

    assert check_gpus(config, root=root, run=must_not_run) is None


@pytest.mark.parametrize("value", ["", "-1"])
def test_hidden_gpus_are_not_checked_and_not_offered(
    config: StackConfig, tmp_path: Path, value: str
) -> None:
    hidden = replace(config, env={"CUDA_VISIBLE_DEVICES": value})

    assert check_gpus(hidden, root=make_machine(tmp_path, "nvidia0"), run=must_not_run) is None
    assert "--num-gpus=0" in prepare_component(build_components(hidden)[0], hidden).command


@pytest.mark.parametrize("file", ["nvidia0", "nvidia12", "dxg"])
def test_usable_gpus_may_be_offered(config: StackConfig, tmp_path: Path, file: str) -> None:
    doctor = make_worker_doctor(CheckResult(GPUS_FINDING, ok=True, detail="all 1 can be used"))

    assert check_gpus(config, root=make_machine(tmp_path, file), run=doctor) is None
    assert not any(
        "--num-gpus" in argument
        for argument in prepare_component(build_components(config)[0], config).command
    )


def test_gpus_that_torch_cannot_use_are_not_offered(config: StackConfig, tmp_path: Path) -> None:
    failed_check = check_gpus(
        config, root=make_machine(tmp_path, "nvidia0"), run=make_worker_doctor(FAILED_CHECK)
    )

    assert failed_check == FAILED_CHECK
    command = prepare_component(build_components(config)[0], config, offers_gpus=False).command
    assert "--num-gpus=0" in command


def test_other_failed_checks_do_not_exclude_gpus(config: StackConfig, tmp_path: Path) -> None:
    results = make_worker_doctor(
        CheckResult("shared memory", ok=False, detail="little", advice="more"),
        CheckResult(GPUS_FINDING, ok=True, detail="all 1 can be used"),
    )

    assert check_gpus(config, root=make_machine(tmp_path, "nvidia0"), run=results) is None


def test_without_an_answer_of_the_worker_no_gpus_are_offered(
    config: StackConfig, tmp_path: Path
) -> None:
    def run_doctor(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        raise OSError("no such file")

    failed_check = check_gpus(config, root=make_machine(tmp_path, "nvidia0"), run=run_doctor)

    assert failed_check is not None
    assert "did not answer" in failed_check.detail
