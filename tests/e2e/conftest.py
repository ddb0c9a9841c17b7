"""One stack for all end-to-end tests of a process, with a tiny digits set."""

from collections.abc import Iterator

import pytest

from service.client import TandemClient
from tests.support.stack.shell import Shell, stack_with_tiny_digits


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with stack_with_tiny_digits(tmp_path_factory.mktemp("stack")) as made:
        yield made


@pytest.fixture
def client(shell: Shell) -> Iterator[TandemClient]:
    with TandemClient(shell.url) as made:
        yield made
