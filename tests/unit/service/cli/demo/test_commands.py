"""What may be said to the stories on the command line."""

import pytest

from service.cli.demo.commands import parse_common_changes
from service.cli.errors import CliError


def test_changes_are_for_every_run() -> None:
    assert parse_common_changes(["schedule.epochs=3"]) == {"schedule.epochs": 3}


@pytest.mark.parametrize("change", ["seed=3", "teacher={name: x}", "teacher.name=x"])
def test_what_the_story_says_itself_is_refused(change: str) -> None:
    with pytest.raises(CliError, match="for all runs at once"):
        parse_common_changes([change])
