"""Output of backups."""

from datetime import datetime
from pathlib import Path

import pytest

from service.cli.maintenance import backup
from service.store.backup import dump, restore
from service.store.backup.archive import ArchiveMember, BackupManifest
from tests.support.cli.outputs import CommandLine
from tests.support.service.run_views import NOW

MANIFEST = BackupManifest(
    tandem="0.1.0",
    revision="0014",
    kind="sqlite",
    created_at=NOW,
    tables={"runs": ArchiveMember(path="runs.jsonl", sha256="", rows=23)},
    files={"signing-key": ArchiveMember(path="signing-key", sha256="")},
)


def test_backup_and_restore(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_url: str, _file: Path, *, at: datetime, **_options: object) -> BackupManifest:
        return MANIFEST

    def read(_url: str, _file: Path, **_options: object) -> BackupManifest:
        return MANIFEST

    monkeypatch.setattr(dump, "write_backup", write)
    monkeypatch.setattr(restore, "restore_backup", read)
    monkeypatch.setattr(backup, "_is_listening", lambda _url: False)

    command_line.check("backup", "backup", "tandem.zip")
    command_line.check("restore", "restore", "tandem.zip")
