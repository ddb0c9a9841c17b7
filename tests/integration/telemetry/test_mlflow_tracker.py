"""What the service itself writes to a real MLflow: consistent metrics, and tags."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from service.adapters.mlflow import MlflowTracker
from service.adapters.mlflow_registry import Request, register_version
from service.domain.errors.systems import TrackerRefused
from service.domain.ports import ModelRelease
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


def make_release(mlflow_run_id: str) -> ModelRelease:
    return ModelRelease(
        name="street 1.0",
        mlflow_run_id=mlflow_run_id,
        path="export/mlflow",
        alias="champion",
        description="bckd helps: +2.3 mAP",
        tags={"tandem.autopilot_id": "a0123456789ab"},
    )


def interrupt_after(request: Request, number: int) -> Request:
    """The service is killed when MLflow has answered so many requests."""
    numbers = iter(range(1, 10))

    def send(method: str, path: str, **arguments: Any) -> dict[str, Any] | None:
        answer = request(method, path, **arguments)
        if next(numbers) == number:
            raise InterruptedError
        return answer

    return send


def test_a_release_has_one_version_whichever_request_was_the_last_one(
    server: MlflowServer,
    tracker: MlflowTracker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    client = MlflowClient(server.url)
    run_id = tracker.make_run("export", project="default", tags={}, at=NOON)
    client.log_text(run_id, "flavors: {}", "export/mlflow/MLmodel")
    release = make_release(run_id)

    for number in (1, 2, 3, 4, 5):
        with suppress(InterruptedError):  # fewer requests are left once the first ones are done
            register_version(interrupt_after(tracker._request, number), release)

    assert tracker.register_model(release) == "1"
    (version,) = client.search_model_versions("name='street 1.0'")
    assert (version.run_id, version.description) == (run_id, release.description)
    assert version.tags == release.tags
    folder = download_artifacts("models:/street 1.0@champion", dst_path=str(tmp_path))
    assert (Path(folder) / "MLmodel").read_text() == "flavors: {}"


def test_the_alias_moves_to_the_newest_delivery(
    server: MlflowServer, tracker: MlflowTracker
) -> None:
    run_ids = [tracker.make_run("export", project="default", tags={}, at=NOON) for _ in range(2)]

    releases = [replace(make_release(run_id), name="moving") for run_id in run_ids]
    versions = [tracker.register_model(release) for release in releases]

    assert versions == ["1", "2"]
    champion = MlflowClient(server.url).get_model_version_by_alias("moving", "champion")
    assert champion.run_id == run_ids[1]


def test_a_model_that_somebody_else_has_created_stays_as_it_is(
    server: MlflowServer, tracker: MlflowTracker
) -> None:
    client = MlflowClient(server.url)
    client.create_registered_model("theirs")
    run_id = tracker.make_run("export", project="default", tags={}, at=NOON)

    with pytest.raises(TrackerRefused, match="another name"):
        tracker.register_model(replace(make_release(run_id), name="theirs"))

    assert client.search_model_versions("name='theirs'") == []
    assert client.get_registered_model("theirs").aliases == {}


def test_a_name_that_mlflow_does_not_take_is_refused(tracker: MlflowTracker) -> None:
    with pytest.raises(TrackerRefused):
        tracker.register_model(replace(make_release("0" * 32), name="invalid/name"))
