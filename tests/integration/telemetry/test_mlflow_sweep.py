"""A sweep's run in a real MLflow: created once, found again, with nested trials."""

from contextlib import closing
from datetime import UTC, datetime

import pytest
from mlflow import MlflowClient

from configs.protocol.names import Tag
from service.adapters.mlflow import MlflowTracker
from service.domain.errors.systems import TrackerRefused
from tests.support.stack.mlflow_server import MlflowServer

pytestmark = pytest.mark.e2e
AT = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("project", ["default", "vision"])
def test_a_parent_is_made_once_and_has_its_trials_below_it(
    server: MlflowServer, project: str
) -> None:
    with closing(MlflowTracker(server.url)) as tracker:
        sweep_id = f"s-{project}"
        assert tracker.find_sweep(sweep_id, project=project) is None

        parent = tracker.make_run("s", project=project, tags={Tag.SWEEP_ID: sweep_id}, at=AT)
        child = tracker.make_run("c", project=project, tags={Tag.RUN_ID: "r1"}, at=AT)
        tracker.set_tags(child, {Tag.PARENT: parent})
        tracker.log_metrics(parent, {"val/bbox_mAP": 0.25, "sweep/trials": 3.0}, at=AT)
        tracker.set_status(parent, "FINISHED", at=AT)

        assert tracker.find_sweep(sweep_id, project=project) == parent
        client = MlflowClient(server.url)
        run = client.get_run(parent)
        assert (run.info.status, run.info.run_name) == ("FINISHED", "s")
        assert run.data.metrics == {"val/bbox_mAP": 0.25, "sweep/trials": 3.0}
        assert client.get_run(child).data.tags["mlflow.parentRunId"] == parent


def test_what_is_not_there_or_deleted_is_refused(server: MlflowServer) -> None:
    with closing(MlflowTracker(server.url)) as tracker:
        deleted_id = tracker.make_run("g", project="default", tags={}, at=AT)
        MlflowClient(server.url).delete_run(deleted_id)

        for run_id in (deleted_id, "0" * 32):
            with pytest.raises(TrackerRefused):
                tracker.log_metrics(run_id, {"x": 1.0}, at=AT)
        with pytest.raises(TrackerRefused):
            tracker.set_tags("0" * 32, {"a": "b"})
