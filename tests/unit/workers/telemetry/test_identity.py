"""Where a run's records go."""

from pathlib import Path

import pytest

from configs.protocol.names import RunFile
from workers.telemetry.identity import find_mlflow_url

PLAIN = "https://mlflow.example.org/team"
FULL = "https://ada:p%40ss@mlflow.example.org/team"


def test_the_password_of_mlflow_comes_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / RunFile.MLFLOW_URL).write_text(FULL)

    assert find_mlflow_url(PLAIN, run_dir=tmp_path) == FULL


def test_without_a_file_the_address_is_complete(tmp_path: Path) -> None:
    assert find_mlflow_url(PLAIN, run_dir=tmp_path) == PLAIN


@pytest.mark.parametrize(
    "url", ["https://other.example.org/team", "http://mlflow.example.org/team"]
)
def test_another_server_does_not_get_the_password(tmp_path: Path, url: str) -> None:
    (tmp_path / RunFile.MLFLOW_URL).write_text(FULL)

    assert find_mlflow_url(url, run_dir=tmp_path) == url
