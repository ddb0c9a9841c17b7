"""Changes to all runs of a demo."""

import pytest

from service.cli.demo.commands import parse_common_changes
from service.cli.errors import CliError


def test_changes_are_for_every_run() -> None:
    assert parse_common_changes(["schedule.epochs=3"]) == {"schedule.epochs": 3}


@pytest.mark.parametrize("change", ["seed=3", "teacher={name: x}", "teacher.name=x"])
def test_seed_and_teacher_cannot_be_changed(change: str) -> None:
    with pytest.raises(CliError, match="for all runs of the experiment"):
        parse_common_changes([change])
