"""The stack starts with simulated commands that answer at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.protocol.names import GPUS_FINDING
from service.stack import lifecycle
from service.stack.components import Part, PartName, StackConfig
from service.stack.health import Health
from service.stack.lifecycle import Step, last_lines, start_stack, stop_stack
from service.stack.ports import free_port
from service.stack.trainer import Finding

FAULT = Finding(GPUS_FINDING, ok=False, detail="0 of 2 GPUs can be used", advice="Update it.")


def answers_when_it_has_written(part: Part, config: StackConfig) -> Health:
    return Health(is_up=bool(last_lines(part.log)), detail="answers")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StackConfig]:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("ray", "mlflow", "tandem"):
        (commands / name).write_text('#!/bin/sh\necho "$@"\nexec sleep 60\n')
        (commands / name).chmod(0o755)
    service, ray, mlflow = (free_port() for _ in range(3))
    made = StackConfig(
        home=tmp_path / "home",
        host="127.0.0.1",
        port=service,
        ray_url=f"http://127.0.0.1:{ray}",
        mlflow_url=f"http://127.0.0.1:{mlflow}",
        bin=commands,
        env={"PATH": "/usr/bin:/bin"},
    )
    monkeypatch.setattr(lifecycle, "probe", answers_when_it_has_written)
    yield made
    stop_stack(made, watch=lambda step: None)


@pytest.mark.parametrize("fault", [FAULT, None], ids=["unusable", "usable"])
def test_ray_offers_no_gpus_that_torch_cannot_use_and_whoever_starts_it_is_told(
    config: StackConfig, monkeypatch: pytest.MonkeyPatch, fault: Finding | None
) -> None:
    monkeypatch.setattr(lifecycle, "unusable_gpus", lambda config: fault)
    steps: list[Step] = []

    start_stack(config, watch=steps.append)

    ready = {step.part: step.detail for step in steps if step.phase == "ready"}
    assert set(ready) == set(PartName)
    arguments = last_lines(config.home / "logs" / "ray.log")
    assert "start --head" in arguments[0]
    assert ("--num-gpus=0" in arguments[0]) is (fault is not None)
    for words in ("no GPU", FAULT.detail, FAULT.advice, "tandem doctor"):
        assert (words in ready[PartName.RAY]) is (fault is not None)
    assert "no GPU" not in ready[PartName.SERVICE]
