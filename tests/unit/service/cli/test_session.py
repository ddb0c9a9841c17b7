"""Ids by their prefix."""

import pytest

from service.cli.errors import CliError
from service.cli.session import match_id_prefix
from tests.support.service.run_views import make_run_summary

RUNS = [
    make_run_summary(id="raaaaaaaaaaa1"),
    make_run_summary(id="raaaaaaaaaaa2"),
    make_run_summary(id="rbbbbbbbbbbb1"),
]


@pytest.mark.parametrize("prefix", ["rb", "rbbbbbbbbbbb1"])
def test_a_unique_prefix_is_enough(prefix: str) -> None:
    assert match_id_prefix(prefix, RUNS) == "rbbbbbbbbbbb1"


def test_an_ambiguous_prefix_lists_the_matches() -> None:
    with pytest.raises(CliError) as exc_info:
        match_id_prefix("ra", RUNS)

    assert [name for name, _ in exc_info.value.error_message.fields] == [
        "raaaaaaaaaaa1",
        "raaaaaaaaaaa2",
    ]
