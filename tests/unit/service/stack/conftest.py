"""No test of the stack leaves a folder in /tmp."""

from pathlib import Path

import pytest

from service.stack import components


@pytest.fixture(autouse=True)
def ray_temp_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which Ray's temporary folders are created, instead of /tmp."""
    monkeypatch.setattr(components, "RAY_TEMP_ROOT", tmp_path)
    return tmp_path
