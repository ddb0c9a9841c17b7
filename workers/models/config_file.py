"""The mmdet config as a Python file, which `mmcv.Config.fromfile` reads again."""

from pathlib import Path
from typing import Any

from mmcv import Config

_WIDTH = 100


def write_config(config: Config, path: Path) -> None:
    """Write one assignment for each key.

    mmcv's own writer formats with yapf, which takes most of a second.
    """
    values = config._cfg_dict.to_dict()
    text = "".join(f"{key} = {_format(value)}\n" for key, value in values.items())
    # In a string, or mmcv would take it for the name of a variable.
    path.write_text(text.replace("{{", r"{\x7b"), encoding="utf-8")


def _format(value: Any, indent: str = "") -> str:
    """A literal, broken into one line for each item where it is too long."""
    text = repr(value)
    if not isinstance(value, dict | list | tuple) or len(indent) + len(text) <= _WIDTH - 20:
        return text
    inner = f"{indent}    "
    if isinstance(value, dict):
        items = [f"{key!r}: {_format(item, inner)}" for key, item in value.items()]
    else:
        items = [_format(item, inner) for item in value]
    lines = "".join(f"{inner}{item},\n" for item in items)
    return f"{text[0]}\n{lines}{indent}{text[-1]}"
