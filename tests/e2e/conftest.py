"""A stack for each module of end-to-end tests, with a tiny digits set."""

from collections.abc import Iterator

import pytest

from service.client import TandemClient
from tests.instant import TINY
from tests.shell import Shell, own_shell


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with own_shell(tmp_path_factory.mktemp("stack")) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPOSE_PROMETHEUS", str(tmp_path_factory.mktemp("mlflow")))
        made.does("up")
        made.does("data", "digits", "--name", "digits-tiny", *TINY)
        yield made


@pytest.fixture
def client(shell: Shell) -> Iterator[TandemClient]:
    with TandemClient(shell.url) as made:
        yield made
