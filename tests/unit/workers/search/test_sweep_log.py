"""The list at the service: patience with a service that is away, none with another driver."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from configs.protocol.names import ExitCode, Metric
from configs.protocol.sweep_log import SweepEntry, SweepExtended, TrialJudged, TrialSuggested
from configs.spec.search import RandomSearch
from configs.spec.sweep import Budget, Values
from tests.support.workers.fake_sweep import Answer, FakeSweep, serve
from tests.support.workers.sweeps import CLS, LOC, a_sweep, goodness
from workers.search.follower import TrialMonitor, status_file
from workers.search.sweep_log import DriverExit, SweepLogClient, SweepLogMirror
from workers.search.trial_status import TrialStatusWriter

AWAY = Answer(503, "starting")
VALUES: Values = {CLS: 1.0, LOC: 4.0}


@pytest.fixture
def sweep() -> Iterator[FakeSweep]:
    with serve(FakeSweep(a_sweep(), lambda values: [goodness(values)] * 3)) as fake:
        yield fake


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def door(sweep: FakeSweep, pauses: list[float]) -> Iterator[SweepLogClient]:
    with closing(SweepLogClient(sweep.url, sweep=sweep.id, sleep=pauses.append)) as door:
        yield door


def begin(number: int) -> TrialSuggested:
    return TrialSuggested(number=number, values=VALUES)


def judge(number: int, epoch: int) -> TrialJudged:
    return TrialJudged(number=number, epoch=epoch, values={Metric.MAP: 0.1}, should_continue=True)


def test_what_is_appended_is_at_the_service_and_here(
    sweep: FakeSweep, door: SweepLogClient
) -> None:
    ledger = SweepLogMirror(door)

    ledger.append(begin(0), judge(0, 1))

    assert sweep.entries == [begin(0), judge(0, 1)]
    assert ledger.sweep.length == 2
    assert ledger.sweep.trials[0].last_epoch == 1
    assert SweepLogMirror(door).sweep.trials == ledger.sweep.trials


def test_a_service_that_is_away_is_waited_for_ever_longer(
    sweep: FakeSweep, door: SweepLogClient, pauses: list[float]
) -> None:
    ledger = SweepLogMirror(door)
    sweep.script = [AWAY] * 9

    ledger.append(begin(0))

    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert sweep.entries == [begin(0)]


def test_an_entry_whose_answer_was_lost_is_there_once(
    sweep: FakeSweep, door: SweepLogClient
) -> None:
    ledger = SweepLogMirror(door)
    sweep.entries.append(begin(0))  # it arrived, but nobody heard

    ledger.append(begin(0))

    assert sweep.entries == [begin(0)]


@pytest.mark.parametrize(
    "written",
    [
        TrialSuggested(number=0, values={CLS: 2.0, LOC: 4.0}),
        SweepExtended(by="me", budget=Budget(), space=a_sweep().space, algorithm=RandomSearch()),
    ],
    ids=["another driver", "a person"],
)
def test_a_driver_whose_list_is_old_leaves(
    sweep: FakeSweep, door: SweepLogClient, written: SweepEntry
) -> None:
    ledger = SweepLogMirror(door)
    sweep.entries.append(written)

    with pytest.raises(DriverExit) as leaving:
        ledger.append(begin(0))

    assert leaving.value.exit_code is ExitCode.SUPERSEDED
    assert sweep.entries == [written]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_service_that_refuses_ends_the_driver_with_its_words(
    sweep: FakeSweep, door: SweepLogClient, status: int
) -> None:
    sweep.script = [Answer(status, '{"detail": "Not for you."}')]

    with pytest.raises(DriverExit, match=str(int(ExitCode.REFUSED))) as leaving:
        SweepLogMirror(door)

    assert "Not for you." in leaving.value.message


def test_what_the_service_says_of_new_trials_is_heard_with_every_answer(
    sweep: FakeSweep, door: SweepLogClient
) -> None:
    ledger = SweepLogMirror(door)
    heard = [ledger.allows_new_trials]
    sweep.allows_new_trials = False
    ledger.append(begin(0))
    heard.append(ledger.allows_new_trials)
    sweep.allows_new_trials = True
    ledger.read_standings()
    heard.append(ledger.allows_new_trials)

    assert heard == [True, False, True]


def test_a_notice_tells_what_the_list_does_not_know_yet(
    sweep: FakeSweep, door: SweepLogClient, tmp_path: Path
) -> None:
    now = [0.0]
    ledger = SweepLogMirror(door)
    ledger.append(begin(0))
    board = TrialStatusWriter(tmp_path, ledger, interval_s=1.0, monotonic=lambda: now[0])
    follower = TrialMonitor({"number": 0, "folder": str(tmp_path)})
    told = []
    for _ in range(4):
        board.poll()
        told.append(follower.train())
        if "result" not in told[-1]:
            ledger.append(judge(0, told[-1]["epoch"]))
        now[0] += 1.0

    assert [one["epoch"] for one in told] == [1, 2, 3, 3]
    assert told[0] == {
        "epoch": 1,
        "values": {Metric.MAP: goodness(VALUES)},
        "is_over": False,
        "done": False,
    }
    assert told[3] == {"epoch": 3, "result": "finished", "done": True}
    assert '"evaluations": []' in status_file(tmp_path, 0).read_text(encoding="utf-8")


def test_the_service_is_asked_no_more_often_than_said(
    sweep: FakeSweep, door: SweepLogClient, tmp_path: Path
) -> None:
    now = [0.0]
    board = TrialStatusWriter(
        tmp_path, SweepLogMirror(door), interval_s=1.0, monotonic=lambda: now[0]
    )

    for now[0] in (0.0, 0.1, 0.9, 1.0, 1.5):
        board.poll()

    assert sweep.looks == 2


def test_a_trial_that_another_driver_began_is_a_reason_to_leave(
    sweep: FakeSweep, door: SweepLogClient, tmp_path: Path
) -> None:
    board = TrialStatusWriter(tmp_path, SweepLogMirror(door), interval_s=1.0)
    sweep.entries.append(begin(0))

    with pytest.raises(DriverExit) as leaving:
        board.poll()

    assert leaving.value.exit_code is ExitCode.SUPERSEDED
