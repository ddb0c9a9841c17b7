"""One stack for all end-to-end tests of a process, with a tiny digits set."""

from collections.abc import Iterator

import pytest

from service.api.schemas.runs import RunRequest, RunView
from service.client import TandemClient
from service.domain.states import RunState
from tests.support.stack.e2e_runs import PATIENCE_S
from tests.support.stack.shell import Shell, stack_with_tiny_digits


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with stack_with_tiny_digits(tmp_path_factory.mktemp("stack")) as made:
        yield made


@pytest.fixture
def client(shell: Shell) -> Iterator[TandemClient]:
    with TandemClient(shell.url) as made:
        yield made


@pytest.fixture(scope="session")
def trained_run(shell: Shell) -> RunView:
    """A run of `quick/instant` that has ended well; no other test launches its seed."""
    with TandemClient(shell.url) as client:
        run = client.launch(RunRequest(preset="quick/instant", changes={"seed": 9}))
        ended = client.wait(run.id, timeout_s=PATIENCE_S)
    assert ended.state is RunState.SUCCEEDED, ended.message
    return ended
