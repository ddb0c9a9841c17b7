"""What the service itself writes to a real MLflow: consistent metrics, and tags."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from mlflow import MlflowClient

from service.adapters.mlflow import MlflowTracker
from service.domain.errors.systems import TrackerRefused
from tests.support.stack.mlflow_server import MlflowServer

pytestmark = pytest.mark.e2e

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def tracker(server: MlflowServer) -> Iterator[MlflowTracker]:
    mlflow_tracker = MlflowTracker(server.url)
    yield mlflow_tracker
    mlflow_tracker.close()


def test_numbers_that_are_told_again_are_there_once_also_of_a_run_that_is_over(
    server: MlflowServer, tracker: MlflowTracker
) -> None:
    run_id = tracker.make_run("r", project="default", tags={}, at=NOON)
    tracker.set_status(run_id, "FINISHED", at=NOON)

    for _ in range(2):
        tracker.log_metrics(run_id, {"gain/bbox_mAP": 0.023}, at=NOON)
        tracker.set_tags(run_id, {"tandem.verdict": "helps"})

    client = MlflowClient(server.url)
    assert [p.value for p in client.get_metric_history(run_id, "gain/bbox_mAP")] == [0.023]
    assert client.get_run(run_id).data.tags["tandem.verdict"] == "helps"
    assert client.get_run(run_id).info.status == "FINISHED"


def test_of_two_moments_the_later_is_shown(server: MlflowServer, tracker: MlflowTracker) -> None:
    run_id = tracker.make_run("r", project="default", tags={}, at=NOON)

    tracker.log_metrics(run_id, {"gain/bbox_mAP": 0.03}, at=NOON)
    tracker.log_metrics(run_id, {"gain/bbox_mAP": 0.01}, at=NOON + timedelta(minutes=1))

    assert MlflowClient(server.url).get_run(run_id).data.metrics == {"gain/bbox_mAP": 0.01}


def test_a_run_that_was_deleted_there_or_never_was_is_refused(
    server: MlflowServer, tracker: MlflowTracker
) -> None:
    run_id = tracker.make_run("r", project="default", tags={}, at=NOON)
    MlflowClient(server.url).delete_run(run_id)

    for missing_id in (run_id, "0" * 32):
        with pytest.raises(TrackerRefused):
            tracker.log_metrics(missing_id, {"gain/bbox_mAP": 0.03}, at=NOON)
        with pytest.raises(TrackerRefused):
            tracker.set_tags(missing_id, {"tandem.verdict": "helps"})
