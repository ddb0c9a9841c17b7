"""A person types the beginning of an id."""

import pytest

from service.cli.errors import Refused
from service.cli.session import id_from_prefix
from tests.unit.service.cli.cast import a_view

RUNS = [a_view(id="raaaaaaaaaaa1"), a_view(id="raaaaaaaaaaa2"), a_view(id="rbbbbbbbbbbb1")]


@pytest.mark.parametrize("prefix", ["rb", "rbbbbbbbbbbb1"])
def test_a_beginning_that_fits_one_run_is_enough(prefix: str) -> None:
    assert id_from_prefix(prefix, RUNS) == "rbbbbbbbbbbb1"


def test_a_beginning_that_fits_several_lists_them() -> None:
    with pytest.raises(Refused) as caught:
        id_from_prefix("ra", RUNS)

    assert [name for name, _ in caught.value.refusal.fields] == ["raaaaaaaaaaa1", "raaaaaaaaaaa2"]


def test_a_beginning_that_fits_none_says_so() -> None:
    with pytest.raises(Refused, match="No run"):
        id_from_prefix("rz", RUNS)
