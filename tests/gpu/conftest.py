"""Tests of what only a GPU can show, which `make gpu-check` runs in the order of their numbers.

A test that asks for `device` runs twice: on the CPU by default, so that its code is known to work
and its comparison is known to hold where it must, and on the GPU where there is one.
"""

from collections.abc import Callable, Iterator

import pytest
import torch

from tests.support.gpu.measurement import RecordFigure, computing_on

GPU_TEST_TIMEOUT_S = 240


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip before any fixture is set up: those of GPU tests train."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} sees no GPU")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A GPU's tests end soon even if the GPU hangs; warnings of its libraries are no failures."""
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.timeout(GPU_TEST_TIMEOUT_S))
            # Operators without a deterministic kernel warn, and other versions of torch do.
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Each device in turn, set up as an attempt sets it up; torch's settings are restored."""
    with computing_on(request.param) as prepared:
        yield prepared


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """The first GPU, set up as an attempt sets it up; for tests marked `gpu`."""
    with computing_on("cuda") as prepared:
        yield prepared


@pytest.fixture
def record_figure(record_property: Callable[[str, object], None]) -> RecordFigure:
    """Records figures of the test that asks for it."""

    def record(name: str, value: float | int | str, unit: str = "") -> None:
        record_property("figure", {"name": name, "value": value, "unit": unit})

    return record
