"""How many trials a driver follows at a time."""

import pytest

from workers.search.driver import count_monitors

GIB = 2**30


@pytest.mark.parametrize(
    ("asked", "free_gib", "expected"),
    [(4, 8, 4), (500, 8, 64), (2, 0.01, 1)],
    ids=["as asked", "as fit", "one at least"],
)
def test_as_many_trials_are_followed_as_asked_if_the_node_has_room(
    asked: int, free_gib: float, expected: int
) -> None:
    assert count_monitors(asked, free_bytes=int(free_gib * GIB)) == expected
