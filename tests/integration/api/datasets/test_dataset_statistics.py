"""The statistics of a dataset over the API."""

from pathlib import Path

import pytest

from configs.protocol.dataset_statistics import STATISTICS
from service.client import TandemClient
from service.client_transport import TandemApiError
from tests.support.dataset_statistics import make_part, make_statistics
from tests.support.factories import NO_HASH, make_spec
from tests.support.service.stage import Stage


def write_statistics(stage: Stage, *, digest: str = NO_HASH) -> Path:
    """Write the file that a worker leaves in the folder of the dataset `pets`."""
    file = stage.home / "datasets" / "pets" / STATISTICS
    file.write_text(make_statistics(dataset_digest=digest).model_dump_json(), encoding="utf-8")
    return file


def test_the_client_reads_what_a_worker_has_counted(stage: Stage) -> None:
    stage.add_dataset()
    write_statistics(stage)

    with TandemClient("http://localhost", transport=stage.transport) as client:
        view = client.dataset_statistics("pets")
        dataset = client.dataset("pets")

    assert view.name == dataset.name == "pets"
    assert view.val.class_objects == (300, 100)
    assert [item.image_size for item in view.resized] == [(320, 320), (640, 640), (1333, 800)]
    assert all(item.share_below_8_px == 0 for item in view.resized)


def test_without_statistics_the_answer_has_the_command(stage: Stage) -> None:
    stage.add_dataset()

    response = stage.http.get("/v1/datasets/pets/statistics")

    assert response.status_code == 404
    problem = response.json()
    assert problem["code"] == "statistics_not_found"
    assert "`tandem data show pets`" in problem["detail"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"dataset_digest": 3}'])
def test_a_damaged_file_counts_as_missing(stage: Stage, content: str) -> None:
    stage.add_dataset()
    write_statistics(stage).write_text(content, encoding="utf-8")

    assert stage.http.get("/v1/datasets/pets/statistics").status_code == 404


def test_statistics_of_other_data_are_not_shown(stage: Stage) -> None:
    stage.add_dataset()
    write_statistics(stage, digest="f" * 64)

    assert stage.http.get("/v1/datasets/pets/statistics").status_code == 404


def test_a_link_to_another_file_is_not_followed(stage: Stage, tmp_path: Path) -> None:
    stage.add_dataset()
    file = write_statistics(stage)
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")

    assert stage.http.get("/v1/datasets/pets/statistics").status_code == 404


def test_an_unknown_dataset_is_named(stage: Stage) -> None:
    with (
        TandemClient("http://localhost", transport=stage.transport) as client,
        pytest.raises(TandemApiError, match="No dataset is called 'no-such'") as caught,
    ):
        client.dataset_statistics("no-such")

    assert caught.value.status == 404


def test_a_plan_warns_about_the_data_and_a_launch_does_not_need_it(stage: Stage) -> None:
    stage.add_dataset()
    file = write_statistics(stage)
    scarce = make_statistics(val=make_part(class_objects=(400, 0)))
    file.write_text(scarce.model_dump_json(), encoding="utf-8")

    plan = stage.http.post("/v1/runs:plan", json={"spec": make_spec()}).json()
    file.unlink()
    without = stage.http.post("/v1/runs:plan", json={"spec": make_spec()}).json()

    assert [(item["severity"], item["code"]) for item in plan["findings"]] == [
        ("warning", "class_not_validated")
    ]
    assert without["findings"] == []
    assert stage.launch(spec=make_spec())["state"] == "queued"
