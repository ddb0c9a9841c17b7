"""Files of datasets that are not what an import writes."""

import os
from pathlib import Path

import pytest

from configs.spec.dataset import MANIFEST
from service.adapters.files import LocalFiles
from service.domain.errors.requests import PathRefused


def test_a_manifest_larger_than_any_import_writes_is_not_read(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "runs", sweeps_dir=tmp_path / "sweeps", roots=[tmp_path])
    (tmp_path / MANIFEST).touch()
    os.truncate(tmp_path / MANIFEST, 2**40)

    with pytest.raises(PathRefused, match="larger than 64 MiB"):
        files.manifest(tmp_path)
