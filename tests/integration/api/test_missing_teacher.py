"""A teacher that is not here: said before anything is queued, with the way to get it."""

import pytest

from tests.support.service.stage import Stage

WAYS = {
    "coco/bckd_r50_from_r101": "tandem teachers fetch gfl-r101-coco-2x-ms",
    "coco/bckd_r50_from_swin_t": "tandem run coco/teacher_swin_t",
    "digits/bckd": "tandem teachers fetch digits-teacher",
}


@pytest.mark.parametrize(("preset", "way"), WAYS.items(), ids=WAYS.keys())
def test_a_preset_without_its_teacher_is_refused_with_the_way_to_get_it(
    stage: Stage, preset: str, way: str
) -> None:
    answer = stage.http.post("/v1/runs", json={"preset": preset})

    assert answer.status_code == 422
    faults = {fault["field"]: fault for fault in answer.json()["errors"]}
    assert faults["teacher.name"]["code"] == "teacher_not_found"
    assert way in faults["teacher.name"]["message"]
    assert stage.http.get("/v1/runs").json()["items"] == []
    stage.turn()
    assert stage.cluster.jobs_by_id == {}


def test_a_teacher_that_nobody_knows_is_answered_with_where_to_look(stage: Stage) -> None:
    answer = stage.http.get("/v1/teachers/huge")

    assert answer.status_code == 404
    assert "`tandem teachers known`" in answer.json()["detail"]
