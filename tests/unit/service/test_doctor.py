"""Failed checks say what is wrong and what to do."""

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import service.doctor
from service.doctor import (
    check_component,
    check_cores,
    check_disk,
    check_memory,
    check_port,
    check_python,
    list_unstarted,
    run_checks,
)
from service.stack.components import ComponentName, StackConfig, build_components
from service.stack.lifecycle import ComponentState, ComponentStatus
from service.stack.trainer import CheckResult, run_worker_doctor
from tests.support.stack.configs import make_stack_config


def _status(state: ComponentState) -> ComponentStatus:
    return ComponentStatus(
        ComponentName.RAY, "Ray", state, "http://h:1", None, None, 0, Path("/l"), "answers"
    )


@pytest.mark.parametrize(
    "result",
    [check_python((3, 12, 0)), check_memory(2**20), check_cores(1)],
    ids=lambda result: result.name,
)
def test_a_failed_check_has_advice(result: CheckResult) -> None:
    assert not result.ok
    assert result.advice


def test_the_disk_of_a_missing_home_is_checked(tmp_path: Path) -> None:
    assert "GiB free" in check_disk(tmp_path / "not" / "yet").detail


@pytest.mark.parametrize("state", ComponentState)
def test_only_a_component_that_should_answer_and_does_not_fails(state: ComponentState) -> None:
    results = list(check_component(_status(state)))

    failing_states = {ComponentState.DEAD, ComponentState.UNRESPONSIVE, ComponentState.UNREACHABLE}
    assert [result.ok for result in results] == (
        [] if state is ComponentState.DOWN else [state not in failing_states]
    )


def test_what_does_not_run_is_named_as_not_checked() -> None:
    states = (ComponentState.DOWN, ComponentState.UP, ComponentState.DEAD)

    (skipped,) = list_unstarted([_status(state) for state in states])
    nothing = [*list_unstarted([replace(_status(ComponentState.DOWN), is_responding=True)])]

    assert (skipped.ok, skipped.skipped) == (True, True)
    assert skipped.detail.endswith(": Ray")
    assert "tandem up" in skipped.advice
    assert nothing == []


def test_a_service_without_workers_says_that_they_were_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.doctor, "find_spec", lambda _name: None)
    elsewhere = make_stack_config(tmp_path, ray_url="http://192.0.2.1:8265")
    monkeypatch.setattr(service.doctor, "_check_service", lambda *_, **_options: ())

    monkeypatch.setattr(service.doctor, "get_stack_status", lambda _config: ())
    (result,) = run_checks(elsewhere, database_url="sqlite://", service_url="http://head:8700")

    assert result.skipped
    assert "tandem-worker doctor" in result.advice


def test_a_component_that_answers_owns_its_port_whoever_started_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = StackConfig(tmp_path, "127.0.0.1", 8700, url, url, tmp_path, env={})
        (ray, *_) = build_components(config)
        unresponsive, responding = (
            check_port(ray, replace(_status(ComponentState.DOWN), is_responding=is_responding))
            for is_responding in (False, True)
        )

    assert not unresponsive.ok
    assert responding.ok


def _script(folder: Path, body: str) -> Path:
    file = folder / "tandem-worker"
    file.write_text(f"#!{sys.executable}\n{body}\n")
    file.chmod(0o755)
    return file


def test_the_checks_of_the_worker_are_parsed(tmp_path: Path) -> None:
    command = _script(
        tmp_path, """print('[{"name": "torch", "ok": true, "detail": "2", "advice": ""}]')"""
    )

    assert run_worker_doctor(command) == (CheckResult("torch", ok=True, detail="2"),)


@pytest.mark.parametrize("body", ["raise SystemExit('no torch')", "print('{}x')", "print('[{}]')"])
def test_malformed_output_of_the_worker_is_a_failed_check(tmp_path: Path, body: str) -> None:
    (result,) = run_worker_doctor(_script(tmp_path, body))

    assert not result.ok
    assert result.advice


def test_a_missing_worker_is_a_failed_check(tmp_path: Path) -> None:
    (result,) = run_worker_doctor(tmp_path / "nothing")

    assert not result.ok


def test_a_worker_that_times_out_is_a_failed_check() -> None:
    def raise_timeout(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired("tandem-worker", 1)

    (result,) = run_worker_doctor(Path("x"), run=raise_timeout)

    assert not result.ok
