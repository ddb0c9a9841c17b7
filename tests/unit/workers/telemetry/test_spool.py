"""No record is lost or reported twice."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from configs.protocol.records import Metrics, Tracked
from tests.support.workers.records import START, make_train_metrics
from workers.telemetry.spool import Spool


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[Callable[[], Spool]]:
    """Opens the same spool repeatedly; all are closed at the end."""
    with ExitStack() as stack:

        def open_again() -> Spool:
            return stack.enter_context(closing(Spool(tmp_path / "spool.jsonl")))

        yield open_again


def test_records_are_read_from_any_position(
    open_spool: Callable[[], Spool], tmp_path: Path
) -> None:
    spool = open_spool()
    for step in range(5):
        spool.append(make_train_metrics(step, loss=1.0))

    read = spool.read(2, limit=2)

    assert [record.step for record in read if isinstance(record, Metrics)] == [2, 3]
    assert spool.read(5, limit=10) == []
    assert len(spool) == 5


def test_a_spool_that_is_opened_again_goes_on(
    open_spool: Callable[[], Spool], tmp_path: Path
) -> None:
    first = open_spool()
    first.append(make_train_metrics(1, loss=1.0))
    first.close()

    second = open_spool()
    second.append(make_train_metrics(2, loss=0.5))

    assert [r.step for r in second.read(0, limit=9) if isinstance(r, Metrics)] == [1, 2]


def test_a_torn_line_is_cut_off(open_spool: Callable[[], Spool], tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    spool = open_spool()
    spool.append(make_train_metrics(1, loss=1.0))
    spool.close()
    with path.open("ab") as file:
        file.write(b'{"kind": "metr')

    reopened = open_spool()
    reopened.append(make_train_metrics(2, loss=0.5))

    assert [r.step for r in reopened.read(0, limit=9) if isinstance(r, Metrics)] == [1, 2]


def test_a_reported_step_is_not_reported_again_after_a_resume(
    open_spool: Callable[[], Spool], tmp_path: Path
) -> None:
    spool = open_spool()
    spool.append(make_train_metrics(10, loss=1.0, lr=0.1))
    spool.close()

    resumed = open_spool()

    values = {"train/loss": 1.0, "val/bbox_mAP": 0.3}
    assert resumed.unreported(10, values) == {"val/bbox_mAP": 0.3}
    assert resumed.unreported(20, values) == values


def test_it_knows_whether_it_names_an_mlflow_run(
    open_spool: Callable[[], Spool], tmp_path: Path
) -> None:
    spool = open_spool()
    assert spool.mlflow_run_id is None

    spool.append(Tracked(at=START, attempt=1, mlflow_run_id="m"))
    spool.close()

    assert open_spool().mlflow_run_id == "m"


def test_a_wait_ends_with_a_new_record_or_with_time(
    open_spool: Callable[[], Spool], tmp_path: Path
) -> None:
    spool = open_spool()

    assert not spool.wait_for_growth(0, timeout_s=0.01)
    spool.append(make_train_metrics(1, loss=1.0))
    assert spool.wait_for_growth(0, timeout_s=0.01)
