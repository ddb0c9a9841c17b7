"""A service with access control, and tokens of two projects."""

import pytest

from service.domain.vocabulary import Role
from tests.support.service.access import make_token
from tests.support.service.stage import Stage


@pytest.fixture
def guarded(guarded: Stage) -> Stage:
    """Has a dataset."""
    guarded.add_dataset()
    return guarded


@pytest.fixture
def viewer(guarded: Stage) -> str:
    return make_token(guarded, "vera", Role.VIEWER, project="ours")


@pytest.fixture
def runner(guarded: Stage) -> str:
    return make_token(guarded, "us", Role.RUNNER, project="ours")


@pytest.fixture
def other_runner(guarded: Stage) -> str:
    return make_token(guarded, "them", Role.RUNNER, project="theirs")
