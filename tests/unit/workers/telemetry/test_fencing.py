"""An attempt that is cut off finds out by the disk that another one has begun."""

from pathlib import Path

import pytest

from workers.telemetry import fencing
from workers.telemetry.fencing import AttemptFence


@pytest.fixture(autouse=True)
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "_LOOK_EVERY_S", 0.0)


@pytest.mark.parametrize(
    ("content", "crossed"),
    [
        ('{"attempt": 3, "run_id": "r1"}', True),
        ('{"attempt": 2, "run_id": "r1"}', False),
        ('{"attempt": 1}', False),
        ("{", False),
        (None, False),
    ],
    ids=["newer", "itself", "older", "torn", "gone"],
)
def test_only_a_newer_one_is_a_reason_to_leave(
    tmp_path: Path, content: str | None, crossed: bool
) -> None:
    file = tmp_path / "reporting.json"
    if content is not None:
        file.write_text(content)

    assert AttemptFence(file, attempt=2).is_superseded() is crossed


def test_once_crossed_it_stays_so(tmp_path: Path) -> None:
    file = tmp_path / "reporting.json"
    file.write_text('{"attempt": 3}')
    found = AttemptFence(file, attempt=2)
    assert found.is_superseded()

    file.unlink()

    assert found.is_superseded()
