"""How pytest-xdist shares the tests among its processes: what stays together, what starts first.

A module's tests stay together, because they share fixtures that take long, and so do modules that
share a fixture of the session. What takes longest starts first, so that no process is left with a
long module when the others have ended.
"""

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

GROUPS = ("tests/e2e/", "tests/integration/stack/ray/", "tests/integration/telemetry/test_mlflow_")
"""Beginnings of paths: all modules below one of them run in the same process."""

LONGEST_FIRST = (
    "tests/e2e/",
    "tests/training/runs/test_exact_resume.py",
    "tests/integration/telemetry/test_mlflow_",
    "tests/training/runs/test_pack_failures.py",
    "tests/integration/stack/ray/",
    "tests/training/",
    "tests/integration/",
)
"""Beginnings of paths in the order in which they start; everything else comes after them."""


def group_of(nodeid: str) -> str:
    """What a test stays together with: tests of the same group run in one process, in order."""
    path = nodeid.partition("::")[0]
    return next((group for group in GROUPS if path.startswith(group)), path)


def rank_of(nodeid: str) -> int:
    """The place of a test in the order in which tests start."""
    return next(
        (rank for rank, start in enumerate(LONGEST_FIRST) if nodeid.startswith(start)),
        len(LONGEST_FIRST),
    )


def pytest_configure(config: pytest.Config) -> None:
    """Give each process its share of the cores, before anybody imports numpy or torch."""
    processes = getattr(config.option, "numprocesses", None)
    if processes:
        threads = max(1, (os.cpu_count() or 1) // int(processes))
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first; tests of one module stay in their order."""
    items.sort(key=lambda item: rank_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadScopeScheduling":
    """By group, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - it may not be installed

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    options: Any = config.option
    options.loadscopereorder = False
    return ByGroup(config, log)
