"""Imports of large packages: what they need in a few functions only is left for later."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any


class PlaceholderModule(ModuleType):
    """Stands for a module until one of its attributes is used.

    While `defer_imports` is active, attributes are placeholders too, because `from a import b`
    asks for them; afterwards they are those of the module, which is imported then.
    """

    is_deferring = True

    def __getattr__(self, name: str) -> Any:
        if not self.is_deferring:
            return getattr(import_module(self.__name__), name)
        if name.startswith("__"):
            raise AttributeError(name)
        return partial(_call_attribute, self, name)


def _call_attribute(module: PlaceholderModule, name: str, /, *args: Any, **kwargs: Any) -> Any:
    function: Callable[..., Any] = getattr(module, name)
    return function(*args, **kwargs)


@contextmanager
def defer_imports(*names: str) -> Iterator[None]:
    """Let imports of these modules inside the context succeed without importing them.

    What the context imports may keep such a module and use its attributes later, or keep a
    function or class of it and call that later: both then import the module. Modules that are
    imported already are left as they are. No other thread may import anything meanwhile.
    """
    packages = {parent for name in names for parent in _list_packages(name)}
    placeholders = {
        name: PlaceholderModule(name) for name in (*packages, *names) if name not in sys.modules
    }
    for name, placeholder in placeholders.items():
        package, _, own_name = name.rpartition(".")
        if package in placeholders:
            setattr(placeholders[package], own_name, placeholder)
    sys.modules.update(placeholders)
    try:
        yield
    finally:
        for name, placeholder in placeholders.items():
            placeholder.is_deferring = False
            if sys.modules.get(name) is placeholder:
                del sys.modules[name]


def _list_packages(name: str) -> Iterator[str]:
    """The packages that contain a module: of `a.b.c`, these are `a` and `a.b`."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """For imports: nearly all their objects stay until the process ends.

    Later collections do not look at the objects of the context again (`gc.freeze`).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
