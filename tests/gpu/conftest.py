"""Fixtures of the tests that `make gpu-check` runs on a GPU, in the order of their numbers.

A test with the fixture `device` runs twice: on the CPU by default, which checks its code and its
comparison, and on the GPU where there is one.
"""

from collections.abc import Callable, Iterator

import pytest
import torch

from tests.support.gpu.measurement import RecordFigure, use_device

GPU_TEST_TIMEOUT_S = 240


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip GPU tests before their fixtures, which train, are set up."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} sees no GPU")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give GPU tests a timeout, and do not fail on warnings of libraries."""
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.timeout(GPU_TEST_TIMEOUT_S))
            # Operators without a deterministic kernel warn, and other versions of torch do.
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Each device in turn, set up like in an attempt; torch's settings are restored."""
    with use_device(request.param) as prepared:
        yield prepared


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """The first GPU, set up like in an attempt; for tests marked `gpu`."""
    with use_device("cuda") as prepared:
        yield prepared


@pytest.fixture
def record_figure(record_property: Callable[[str, object], None]) -> RecordFigure:
    """Records figures of a test for the report."""

    def record(name: str, value: float | int | str, unit: str = "") -> None:
        record_property("figure", {"name": name, "value": value, "unit": unit})

    return record
