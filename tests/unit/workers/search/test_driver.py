"""How many trials a driver runs concurrently."""

import pytest

from workers.search.driver import count_monitors

GIB = 2**30


@pytest.mark.parametrize(
    ("requested", "free_gib", "expected"),
    [(4, 8, 4), (500, 8, 64), (2, 0.01, 1)],
    ids=["as requested", "as fits", "at least one"],
)
def test_concurrency_is_as_requested_if_the_memory_suffices(
    requested: int, free_gib: float, expected: int
) -> None:
    assert count_monitors(requested, free_bytes=int(free_gib * GIB)) == expected
