"""Configurations of stacks that no test starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from service.stack.components import StackConfig


def make_stack_config(tmp_path: Path, **changes: Any) -> StackConfig:
    """A stack of this machine, with its home below `tmp_path` and commands that do not exist."""
    config = StackConfig(
        home=tmp_path / "home",
        host="127.0.0.1",
        port=18700,
        ray_url="http://127.0.0.1:18265",
        mlflow_url="http://127.0.0.1:15500",
        bin=Path("/env/bin"),
        env={"PATH": "/usr/bin"},
    )
    return replace(config, **changes)
