"""One stack for all end-to-end tests of a process, with a tiny digits set."""

from collections.abc import Iterator

import pytest

from service.api.schemas.runs import RunRequest, RunView
from service.client import TandemClient
from service.domain.states import RunState
from tests.support.stack.e2e_runs import TIMEOUT_S
from tests.support.stack.shell import Shell, start_stack_with_digits


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with start_stack_with_digits(tmp_path_factory.mktemp("stack")) as stack_shell:
        yield stack_shell


@pytest.fixture
def client(shell: Shell) -> Iterator[TandemClient]:
    with TandemClient(shell.url) as tandem_client:
        yield tandem_client


@pytest.fixture(scope="session")
def trained_run(shell: Shell) -> RunView:
    """A run of `quick/instant` that has succeeded; no other test launches its seed."""
    with TandemClient(shell.url) as client:
        run = client.launch(RunRequest(preset="quick/instant", changes={"seed": 9}))
        ended = client.wait(run.id, timeout_s=TIMEOUT_S)
    assert ended.state is RunState.SUCCEEDED, ended.message
    return ended
