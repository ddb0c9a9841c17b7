"""Keys of the JSON that commands print, as docs/command-line.md lists them."""

import importlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, JsonValue

DOCUMENT = Path(__file__).parents[3] / "docs" / "command-line.md"
_ROW = re.compile(r"^\| (`.+`) \| (a list of )?(`.+`) \|$", re.MULTILINE)
_SCHEMAS = ("access", "autopilots", "methods", "registry", "run_lists", "runs", "sweeps")


@cache
def documented_keys() -> Mapping[str, frozenset[str]]:
    """Keys by command, of the document or of each of its elements."""
    rows = _ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    return {
        command: frozenset(key for name in _names(keys) for key in _fields(name))
        for commands, _, keys in rows
        for command in _names(commands)
    }


def check_keys(arguments: Sequence[str], document: JsonValue) -> None:
    """Require that a document has the keys that are listed for the command."""
    options = " --plan" if "--plan" in arguments else ""
    candidates = (" ".join(arguments[:count]) + options for count in (2, 1))
    command = next(name for name in candidates if name in documented_keys())
    elements = document if isinstance(document, list) else [document]
    for element in elements:
        assert isinstance(element, dict)
        assert set(element) == documented_keys()[command], f"{DOCUMENT} on {command}"


def _names(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def _fields(name: str) -> frozenset[str]:
    """Fields of a model of the API, or the name itself."""
    if not name.endswith("View"):
        return frozenset({name})
    modules = [importlib.import_module(f"service.api.schemas.{part}") for part in _SCHEMAS]
    models = [vars(module)[name] for module in modules if name in vars(module)]
    return frozenset(key for model in models[:1] for key in _model_fields(model))


def _model_fields(model: type[BaseModel]) -> list[str]:
    return list(model.model_fields)
