"""`make bench` prints its table and writes every round."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import CHECKOUT, main
from tests.bench.step.measure import compare_with_published


def test_a_part_is_measured_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench"
    arguments = ["--only", "published", "losses", "--rounds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["tests.bench", *arguments])
    monkeypatch.delenv(CHECKOUT, raising=False)

    main()

    printed = capsys.readouterr()
    assert f"{CHECKOUT} is not set" in printed.err
    assert "| assignment and losses, 16 images with 1 to 100 boxes |" in printed.out
    assert (tmp_path / "bench.md").read_text() in printed.out
    comparisons = json.loads((tmp_path / "bench.json").read_text())
    assert [len(comparison["tandem"]) for comparison in comparisons] == [1, 1, 1]


@pytest.mark.slow  # two minutes of steps
@pytest.mark.timeout(1200)
@pytest.mark.skipif(CHECKOUT not in os.environ, reason=f"{CHECKOUT} names no published checkout")
def test_losses_are_those_of_the_published_code(tmp_path: Path) -> None:
    comparisons, counts = compare_with_published(
        Path(os.environ[CHECKOUT]), rounds=1, folder=tmp_path
    )

    assert len(comparisons) == 6
    assert all(count.tandem < count.reference for count in counts)
