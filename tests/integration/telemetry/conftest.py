"""What several modules share, started once in each process that runs tests."""

from collections.abc import Iterator

import pytest

from tests.support.stack.mlflow_server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An MLflow server; who stops it starts it again."""
    made = Server(tmp_path_factory.mktemp("mlflow"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
