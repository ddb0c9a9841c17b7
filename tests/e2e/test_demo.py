"""`tandem demo`: packed pairs of students, several seeds, a conclusion and a page."""

from pathlib import Path

import pytest

from service.client import TandemClient
from service.domain.states import RunState
from tests.support.stack.shell import open_shell

TINY = (
    "schedule.epochs=1",
    "data.train_images=16",
    "evaluation.val_images=8",
    "evaluation.pictures=2",
)
TIMEOUT_S = 600

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1500)]


def test_the_demo_ends_with_a_conclusion_over_its_seeds_and_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with open_shell(tmp_path) as shell:
        command = ("demo", *TINY, "--seeds", "5,6", "--page", str(page))
        printed = shell.run(*command, timeout_s=TIMEOUT_S)
        with TandemClient(shell.url) as client:
            runs = [run for run in client.runs().items if run.task == "train"]
            events = {run.id: {event.kind for event in client.events(run.id)} for run in runs}
            distilled = client.run(next(run.id for run in runs if run.preset == "digits/bckd"))
        again = shell.run(*command, timeout_s=TIMEOUT_S)

    assert [run.state for run in runs] == [RunState.SUCCEEDED] * 4
    assert all("pack_joined" in kinds for kinds in events.values())
    assert distilled.comparison is not None
    assert [pair.seed for pair in distilled.comparison.gains] == [5, 6]
    assert distilled.comparison.conclusion in printed
    assert distilled.comparison.conclusion in page.read_text(encoding="utf-8")
    assert again.count("exists already; --fresh trains it again") == 2
