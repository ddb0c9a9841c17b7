"""A missing teacher is refused before anything is queued, with the command that fetches it."""

import pytest

from tests.support.service.stage import Stage

COMMANDS = {
    "coco/bckd_r50_from_r101": "tandem teachers fetch gfl-r101-coco-2x-ms",
    "coco/bckd_r50_from_swin_t": "tandem run coco/teacher_swin_t",
    "digits/bckd": "tandem teachers fetch digits-teacher",
}


@pytest.mark.parametrize(("preset", "command"), COMMANDS.items(), ids=COMMANDS.keys())
def test_a_preset_without_its_teacher_is_refused_with_the_command_to_get_it(
    stage: Stage, preset: str, command: str
) -> None:
    response = stage.http.post("/v1/runs", json={"preset": preset})

    assert response.status_code == 422
    errors = {error["field"]: error for error in response.json()["errors"]}
    assert errors["teacher.name"]["code"] == "teacher_not_found"
    assert command in errors["teacher.name"]["message"]
    assert stage.http.get("/v1/runs").json()["items"] == []
    stage.run_loops()
    assert stage.cluster.jobs_by_id == {}


def test_an_unknown_teacher_is_refused_with_a_hint(stage: Stage) -> None:
    response = stage.http.get("/v1/teachers/huge")

    assert response.status_code == 404
    assert "`tandem teachers known`" in response.json()["detail"]
