"""A service with access control, and tokens of two projects."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.domain.access import Role
from tests.support.service.access import make_token
from tests.support.service.stage import Stage, open_stage


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Stage]:
    """A service with access control and a dataset; its client is an admin."""
    with open_stage(tmp_path, auth="tokens") as stage:
        stage.http.headers["Authorization"] = f"Bearer {make_token(stage, 'root', Role.ADMIN)}"
        stage.add_dataset()
        yield stage


@pytest.fixture
def viewer(guarded: Stage) -> str:
    return make_token(guarded, "vera", Role.VIEWER, project="ours")


@pytest.fixture
def runner(guarded: Stage) -> str:
    return make_token(guarded, "us", Role.RUNNER, project="ours")


@pytest.fixture
def other_runner(guarded: Stage) -> str:
    return make_token(guarded, "them", Role.RUNNER, project="theirs")
