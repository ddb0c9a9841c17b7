"""An attempt without network detects on the disk that a newer one has started."""

from pathlib import Path

import pytest

from workers.telemetry import fencing
from workers.telemetry.fencing import AttemptFence


@pytest.fixture(autouse=True)
def poll_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "_POLL_INTERVAL_S", 0.0)


@pytest.mark.parametrize(
    ("content", "is_superseded"),
    [
        ('{"attempt": 3, "run_id": "r1"}', True),
        ('{"attempt": 2, "run_id": "r1"}', False),
        ('{"attempt": 1}', False),
        ("{", False),
        (None, False),
    ],
    ids=["newer", "itself", "older", "torn", "gone"],
)
def test_only_a_newer_attempt_supersedes(
    tmp_path: Path, content: str | None, is_superseded: bool
) -> None:
    file = tmp_path / "reporting.json"
    if content is not None:
        file.write_text(content)

    assert AttemptFence(file, attempt=2).is_superseded() is is_superseded


def test_once_superseded_it_stays_so(tmp_path: Path) -> None:
    file = tmp_path / "reporting.json"
    file.write_text('{"attempt": 3}')
    fence = AttemptFence(file, attempt=2)
    assert fence.is_superseded()

    file.unlink()

    assert fence.is_superseded()


def test_a_thawed_process_reads_the_file_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fencing, "_POLL_INTERVAL_S", 3600.0)
    file = tmp_path / "reporting.json"
    fence = AttemptFence(file, attempt=2)

    file.write_text('{"attempt": 3}')

    assert not fence.is_superseded()
    assert fence.is_superseded(at_once=True)
    assert fence.is_superseded()
