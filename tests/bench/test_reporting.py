"""The comparison of `tests.bench.reporting` runs, and counts a measurement of loss shares."""

from pathlib import Path

from configs.protocol.names import RunFile
from tests.bench.reporting import measure_reporting


def test_reporting_is_compared_with_steps(tmp_path: Path) -> None:
    (comparison,) = measure_reporting(rounds=1, folder=tmp_path, steps=2)

    assert 0 < comparison.ratio < 1
    assert "/share" in (tmp_path / "run" / RunFile.SPOOL).read_text()
