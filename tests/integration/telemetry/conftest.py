"""The MLflow server that all telemetry tests of a process share."""

from collections.abc import Iterator

import pytest

from tests.support.stack.mlflow_server import MlflowServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A running MLflow server; a test that stops it must start it again."""
    mlflow_server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        mlflow_server.start()
        yield mlflow_server
    finally:
        mlflow_server.stop()
