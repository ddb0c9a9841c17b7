"""The driver's copy of the log: retries while the service is unavailable, conflicts of drivers."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from configs.metric_keys import Metric
from configs.protocol.names import ExitCode
from configs.protocol.sweep_log import SweepEntry, SweepExtended, TrialJudged, TrialSuggested
from configs.spec.search import RandomSearch
from configs.spec.sweep import Budget, Values
from tests.support.workers.fake_service import Response
from tests.support.workers.fake_sweep import FakeSweep, serve
from tests.support.workers.sweeps import CLS, LOC, compute_score, make_sweep
from workers.search.sweep_log import DriverExit, SweepLogClient, SweepLogMirror
from workers.search.trial_monitor import TrialMonitor, status_file
from workers.search.trial_status import TrialStatusWriter

UNAVAILABLE = Response(503, "starting")
VALUES: Values = {CLS: 1.0, LOC: 4.0}


@pytest.fixture
def sweep() -> Iterator[FakeSweep]:
    with serve(FakeSweep(make_sweep(), lambda values: [compute_score(values)] * 3)) as fake:
        yield fake


@pytest.fixture
def delays() -> list[float]:
    return []


@pytest.fixture
def client(sweep: FakeSweep, delays: list[float]) -> Iterator[SweepLogClient]:
    with closing(SweepLogClient(sweep.url, sweep=sweep.id, sleep=delays.append)) as client:
        yield client


def make_suggested(number: int) -> TrialSuggested:
    return TrialSuggested(number=number, values=VALUES)


def make_judged(number: int, epoch: int) -> TrialJudged:
    return TrialJudged(number=number, epoch=epoch, values={Metric.MAP: 0.1}, should_continue=True)


def test_appended_entries_are_in_the_log_and_in_its_copy(
    sweep: FakeSweep, client: SweepLogClient
) -> None:
    log_mirror = SweepLogMirror(client)

    log_mirror.append(make_suggested(0), make_judged(0, 1))

    assert sweep.entries == [make_suggested(0), make_judged(0, 1)]
    assert log_mirror.sweep.length == 2
    assert log_mirror.sweep.trials[0].last_epoch == 1
    assert SweepLogMirror(client).sweep.trials == log_mirror.sweep.trials


def test_an_unavailable_service_is_retried_with_growing_delays(
    sweep: FakeSweep, client: SweepLogClient, delays: list[float]
) -> None:
    log_mirror = SweepLogMirror(client)
    sweep.scripted_responses = [UNAVAILABLE] * 9

    log_mirror.append(make_suggested(0))

    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert sweep.entries == [make_suggested(0)]


def test_an_entry_whose_response_was_lost_is_appended_once(
    sweep: FakeSweep, client: SweepLogClient
) -> None:
    log_mirror = SweepLogMirror(client)
    sweep.entries.append(make_suggested(0))  # it arrived, but the response was lost

    log_mirror.append(make_suggested(0))

    assert sweep.entries == [make_suggested(0)]


@pytest.mark.parametrize(
    "entry",
    [
        TrialSuggested(number=0, values={CLS: 2.0, LOC: 4.0}),
        SweepExtended(by="me", budget=Budget(), space=make_sweep().space, algorithm=RandomSearch()),
    ],
    ids=["another driver", "a person"],
)
def test_a_driver_with_an_outdated_log_exits(
    sweep: FakeSweep, client: SweepLogClient, entry: SweepEntry
) -> None:
    log_mirror = SweepLogMirror(client)
    sweep.entries.append(entry)

    with pytest.raises(DriverExit) as exit_info:
        log_mirror.append(make_suggested(0))

    assert exit_info.value.exit_code is ExitCode.SUPERSEDED
    assert sweep.entries == [entry]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_ends_the_driver_with_the_message_of_the_service(
    sweep: FakeSweep, client: SweepLogClient, status: int
) -> None:
    sweep.scripted_responses = [Response(status, '{"detail": "Not for you."}')]

    with pytest.raises(DriverExit, match=str(int(ExitCode.REFUSED))) as exit_info:
        SweepLogMirror(client)

    assert "Not for you." in exit_info.value.message


def test_every_response_updates_whether_new_trials_are_allowed(
    sweep: FakeSweep, client: SweepLogClient
) -> None:
    log_mirror = SweepLogMirror(client)
    allowed = [log_mirror.allows_new_trials]
    sweep.allows_new_trials = False
    log_mirror.append(make_suggested(0))
    allowed.append(log_mirror.allows_new_trials)
    sweep.allows_new_trials = True
    log_mirror.read_progress()
    allowed.append(log_mirror.allows_new_trials)

    assert allowed == [True, False, True]


def test_a_status_file_has_the_evaluations_that_are_not_in_the_log(
    sweep: FakeSweep, client: SweepLogClient, tmp_path: Path
) -> None:
    now = [0.0]
    log_mirror = SweepLogMirror(client)
    log_mirror.append(make_suggested(0))
    status_writer = TrialStatusWriter(
        tmp_path, log_mirror, interval_s=1.0, monotonic=lambda: now[0]
    )
    monitor = TrialMonitor({"number": 0, "folder": str(tmp_path)})
    reports = []
    for _ in range(4):
        status_writer.poll()
        reports.append(monitor.train())
        if "result" not in reports[-1]:
            log_mirror.append(make_judged(0, reports[-1]["epoch"]))
        now[0] += 1.0

    assert [report["epoch"] for report in reports] == [1, 2, 3, 3]
    assert reports[0] == {
        "epoch": 1,
        "values": {Metric.MAP: compute_score(VALUES)},
        "is_over": False,
        "done": False,
    }
    assert reports[3] == {"epoch": 3, "result": "finished", "done": True}
    assert '"evaluations": []' in status_file(tmp_path, 0).read_text(encoding="utf-8")


def test_the_service_is_polled_at_most_once_per_interval(
    sweep: FakeSweep, client: SweepLogClient, tmp_path: Path
) -> None:
    now = [0.0]
    status_writer = TrialStatusWriter(
        tmp_path, SweepLogMirror(client), interval_s=1.0, monotonic=lambda: now[0]
    )

    for now[0] in (0.0, 0.1, 0.9, 1.0, 1.5):
        status_writer.poll()

    assert sweep.polls == 2


def test_a_trial_that_another_driver_started_ends_the_driver(
    sweep: FakeSweep, client: SweepLogClient, tmp_path: Path
) -> None:
    status_writer = TrialStatusWriter(tmp_path, SweepLogMirror(client), interval_s=1.0)
    sweep.entries.append(make_suggested(0))

    with pytest.raises(DriverExit) as exit_info:
        status_writer.poll()

    assert exit_info.value.exit_code is ExitCode.SUPERSEDED
