"""Starting and stopping the stack, with fake commands that respond at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.protocol.names import GPUS_FINDING
from service.stack import lifecycle
from service.stack.components import Component, ComponentName, StackConfig
from service.stack.health import HealthCheck
from service.stack.lifecycle import ComponentProgress, read_last_lines, start_stack, stop_stack
from service.stack.ports import choose_free_port
from service.stack.trainer import CheckResult

FAULT = CheckResult(GPUS_FINDING, ok=False, detail="0 of 2 GPUs can be used", advice="Update it.")


def is_up_once_it_has_logged(component: Component, config: StackConfig) -> HealthCheck:
    return HealthCheck(is_up=bool(read_last_lines(component.log)), detail="answers")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StackConfig]:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("ray", "mlflow", "tandem"):
        (commands / name).write_text('#!/bin/sh\necho "$@"\nexec sleep 60\n')
        (commands / name).chmod(0o755)
    service, ray, mlflow = (choose_free_port() for _ in range(3))
    stack_config = StackConfig(
        home=tmp_path / "home",
        host="127.0.0.1",
        port=service,
        ray_url=f"http://127.0.0.1:{ray}",
        mlflow_url=f"http://127.0.0.1:{mlflow}",
        bin=commands,
        env={"PATH": "/usr/bin:/bin"},
    )
    monkeypatch.setattr(lifecycle, "check_health", is_up_once_it_has_logged)
    yield stack_config
    stop_stack(stack_config, on_progress=lambda step: None)


@pytest.mark.parametrize("fault", [FAULT, None], ids=["unusable", "usable"])
def test_ray_offers_no_gpus_that_torch_cannot_use_and_the_user_is_warned(
    config: StackConfig, monkeypatch: pytest.MonkeyPatch, fault: CheckResult | None
) -> None:
    monkeypatch.setattr(lifecycle, "check_gpus", lambda config: fault)
    steps: list[ComponentProgress] = []

    start_stack(config, on_progress=steps.append)

    details = {step.component: step.detail for step in steps if step.phase == "ready"}
    assert set(details) == set(ComponentName)
    arguments = read_last_lines(config.home / "logs" / "ray.log")
    assert "start --head" in arguments[0]
    assert ("--num-gpus=0" in arguments[0]) is (fault is not None)
    for text in ("no GPU", FAULT.detail, FAULT.advice, "tandem doctor"):
        assert (text in details[ComponentName.RAY]) is (fault is not None)
    assert "no GPU" not in details[ComponentName.SERVICE]
