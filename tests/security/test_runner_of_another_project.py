"""A runner of one project who wants to harm, or go before, the others."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.access import Caller
from service.domain.registry import ReplaceForbidden
from service.domain.vocabulary import Role
from service.usecases import registry
from tests.support.factories import (
    CLASSES,
    make_bckd_spec,
    make_detector_spec,
    make_manifest,
    make_spec,
    write_checkpoint,
    write_dataset,
)
from tests.support.service.access import make_token, send_request
from tests.support.service.stage import ON_BOTH_DATABASES, Stage

SPACE = {"distillation.cls_weight": {"kind": "loguniform", "low": 0.1, "high": 10.0}}
SWEEP = {"spec": make_bckd_spec(), "space": SPACE}
DATA = make_spec()["data"]
EVALUATED = {"dataset": {"name": "pets"}, "image_size": [96, 96]}


class TestSharedNames:
    """Datasets and teachers belong to all projects."""

    def test_what_another_project_registered_is_not_replaced(
        self, guarded: Stage, runner: str, other_runner: str
    ) -> None:
        assert register_teacher(guarded, other_runner).status_code == 201
        assert register_dataset(guarded, other_runner, "cells").status_code == 201

        teacher = register_teacher(guarded, runner, content=b"other", replace=True)
        dataset = register_dataset(guarded, runner, "cells", classes=("cat",), replace=True)

        for response in (teacher, dataset):
            assert response.status_code == 403
            assert response.json()["code"] == "replace_forbidden"
            assert "admin" in response.json()["detail"]

    def test_what_an_admin_registered_is_not_replaced(self, guarded: Stage, runner: str) -> None:
        guarded.add_teacher("big")

        teacher = register_teacher(guarded, runner, content=b"other", replace=True)
        dataset = register_dataset(guarded, runner, "pets", classes=("cat",), replace=True)

        assert [teacher.status_code, dataset.status_code] == [403, 403]

    def test_equal_content_at_another_path_is_not_taken_either(
        self, guarded: Stage, runner: str, other_runner: str
    ) -> None:
        register_teacher(guarded, other_runner)

        moved = register_teacher(guarded, runner, folder="elsewhere")

        assert moved.status_code == 403

    def test_a_repeated_registration_is_answered_as_before(
        self, guarded: Stage, runner: str, other_runner: str
    ) -> None:
        register_teacher(guarded, other_runner)
        register_dataset(guarded, other_runner, "cells")

        assert register_teacher(guarded, runner).status_code == 200
        assert register_dataset(guarded, runner, "cells").status_code == 200

    def test_an_own_one_is_replaced(self, guarded: Stage, runner: str) -> None:
        register_teacher(guarded, runner)
        register_dataset(guarded, runner, "cells")

        teacher = register_teacher(guarded, runner, content=b"other", replace=True)
        dataset = register_dataset(guarded, runner, "cells", classes=("cat",), replace=True)

        assert [teacher.status_code, dataset.status_code] == [200, 200]

    def test_an_admin_replaces_everything(self, guarded: Stage, runner: str) -> None:
        register_teacher(guarded, runner)
        admin = make_token(guarded, "ada", Role.ADMIN)

        assert register_teacher(guarded, admin, content=b"b", replace=True).status_code == 200
        # It still belongs to the project.
        assert register_teacher(guarded, runner, content=b"c", replace=True).status_code == 200


OWN_RUNNER = Caller("us", Role.RUNNER, "ours")


@ON_BOTH_DATABASES
def test_an_own_dataset_that_runs_of_others_use_is_not_replaced(stage: Stage) -> None:
    register_own_dataset(stage, "cells", CLASSES)
    own_id = stage.launch(spec=make_spec(), project="ours")["id"]
    spec = make_spec(data=DATA | {"dataset": {"name": "cells"}})
    foreign_id = stage.launch(spec=spec, project="theirs")["id"]

    with pytest.raises(ReplaceForbidden, match="unfinished runs of other projects"):
        register_own_dataset(stage, "cells", ("cat",))
    stage.http.post(f"/v1/runs/{foreign_id}:cancel")
    register_own_dataset(stage, "cells", ("cat",))

    assert stage.run(own_id)["state"] == "queued"


@ON_BOTH_DATABASES
@pytest.mark.parametrize("user", ["run", "evaluation", "sweep"])
def test_an_own_teacher_that_others_use_is_not_replaced(stage: Stage, user: str) -> None:
    stage.add_dataset()
    register_own_teacher(stage, b"first")
    evaluation = {"model": {"name": "big"}, "data": EVALUATED}
    requests: dict[str, tuple[str, dict[str, Any]]] = {
        "run": ("/v1/runs", {"spec": make_bckd_spec()}),
        "evaluation": ("/v1/evaluations", evaluation),
        "sweep": ("/v1/sweeps", {"spec": make_bckd_spec(), "space": SPACE}),
    }
    path, body = requests[user]
    used = stage.http.post(path, json={**body, "project": "theirs"})
    assert used.status_code == 201, used.text

    with pytest.raises(ReplaceForbidden, match="unfinished runs of other projects"):
        register_own_teacher(stage, b"second")


class TestPriorities:
    """A run of a larger priority preempts the runs of all projects."""

    def test_a_priority_above_the_project_s_largest_is_refused(
        self, guarded: Stage, runner: str
    ) -> None:
        run_id = launch(guarded, runner).json()["id"]

        answers = [
            launch(guarded, runner, priority=100),
            launch(guarded, runner, "/v1/runs:plan", priority=1),
            send_request(
                guarded, "POST", f"/v1/runs/{run_id}:prioritize", runner, json={"priority": 1}
            ),
            *(
                send_request(guarded, "POST", path, runner, json={**SWEEP, "priority": 1})
                for path in ("/v1/sweeps", "/v1/sweeps:plan")
            ),
        ]

        for response in answers:
            assert response.status_code == 403, response.text
            assert response.json()["code"] == "priority_forbidden"
            assert "tandem projects set ours --max-priority" in response.json()["detail"]
        assert guarded.run(run_id)["priority"] == 0

    def test_a_smaller_priority_is_always_allowed(self, guarded: Stage, runner: str) -> None:
        assert launch(guarded, runner, priority=-5).status_code == 201

    def test_an_admin_raises_the_largest_priority(self, guarded: Stage, runner: str) -> None:
        guarded.http.put("/v1/projects/ours", json={"max_priority": 10})

        assert launch(guarded, runner, priority=10).status_code == 201
        assert launch(guarded, runner, priority=11).status_code == 403
        assert guarded.http.get("/v1/projects/ours").json()["max_priority"] == 10
        assert guarded.http.get("/v1/projects/theirs").json()["max_priority"] == 0

    def test_an_admin_gives_any_priority_and_a_runner_lowers_it(
        self, guarded: Stage, runner: str
    ) -> None:
        run_id = guarded.launch(spec=make_spec(), project="ours", priority=100)["id"]

        responses = [
            send_request(
                guarded, "POST", f"/v1/runs/{run_id}:prioritize", runner, json={"priority": value}
            ).status_code
            for value in (50, 60, 50)
        ]

        assert responses == [200, 403, 200]

    def test_repeated_runs_do_not_inherit_what_an_admin_gave(
        self, guarded: Stage, runner: str
    ) -> None:
        guarded.add_teacher("big")
        run = guarded.launch(spec=make_bckd_spec(), project="ours", priority=100)

        response = send_request(
            guarded, "POST", f"/v1/runs/{run['id']}:repeat", runner, json={"seeds": 2}
        )

        (new,) = (pair for pair in response.json()["pairs"] if pair["is_new"])
        assert guarded.run(new["run_id"])["priority"] == 0
        assert guarded.run(new["baseline_run_id"])["priority"] == 0


RESERVED = ("tandem.verdict", "tandem.run_id", "mlflow.user", "mlflow.note.content")
UNPRINTABLE = {
    "an escape sequence": "a\x1b[2J",
    "a C1 control": "a\x9b2J",
    "a direction override": "abc\u202etxt.exe",
    "an isolate": "a\u2066b\u2069",
    "a mark": "a\u200fb",
    "a line separator": "a\u2028b",
}


class TestTexts:
    """What a run says of itself is not taken for what Tandem says, and is shown as it is."""

    @pytest.mark.parametrize("tag", RESERVED)
    def test_tags_of_tandem_and_mlflow_are_refused(
        self, guarded: Stage, runner: str, tag: str
    ) -> None:
        spec = make_spec(tags={tag: "helps"})
        evaluation = {"model": {"name": "big"}, "data": EVALUATED}
        guarded.add_teacher("big")

        answers = [
            send_request(guarded, "POST", "/v1/runs", runner, json={"spec": spec}),
            send_request(guarded, "POST", "/v1/sweeps", runner, json={**SWEEP, "tags": {tag: "1"}}),
            send_request(
                guarded, "POST", "/v1/evaluations", runner, json={**evaluation, "tags": {tag: "1"}}
            ),
        ]

        for response in answers:
            assert response.status_code == 422
            assert f"tags.{tag}" in {error["field"] for error in response.json()["errors"]}

    @pytest.mark.parametrize("text", UNPRINTABLE.values(), ids=UNPRINTABLE.keys())
    def test_control_characters_are_refused(self, guarded: Stage, runner: str, text: str) -> None:
        answers = {
            "name": launch(guarded, runner, name=text),
            "tags.note": launch(guarded, runner, spec=make_spec(tags={"note": text})),
            "source": register_teacher(guarded, runner, source=text),
            "classes.0": register_teacher(guarded, runner, classes=[text]),
            "root": register_dataset(guarded, runner, "cells", classes=(text,)),
        }

        for field, response in answers.items():
            assert response.status_code == 422, field
            assert field in {error["field"] for error in response.json()["errors"]}
        token = guarded.http.post("/v1/tokens", json={"name": text})
        assert token.status_code == 422

    def test_texts_of_other_scripts_are_accepted(self, guarded: Stage, runner: str) -> None:
        name = "مرحبا Übung 猫 👩‍🔬"

        assert launch(guarded, runner, name=name).json()["name"] == name


def launch(guarded: Stage, token: str, path: str = "/v1/runs", **body: Any) -> httpx.Response:
    return send_request(guarded, "POST", path, token, json={"spec": make_spec(), **body})


def register_teacher(
    guarded: Stage, token: str, *, content: bytes = b"", folder: str = "teachers", **body: Any
) -> httpx.Response:
    checkpoint: Path = write_checkpoint(guarded.home / folder / "big.pth")
    if content:
        checkpoint.write_bytes(content)
    document = {
        "name": "big",
        "checkpoint": str(checkpoint),
        "detector": make_detector_spec().model_dump(mode="json"),
        "classes": list(CLASSES),
        **body,
    }
    return send_request(guarded, "POST", "/v1/teachers", token, json=document)


def register_dataset(
    guarded: Stage,
    token: str,
    name: str,
    *,
    classes: tuple[str, ...] = CLASSES,
    replace: bool = False,
) -> httpx.Response:
    folder = guarded.home / "datasets" / f"{name}-{len(classes)}"
    root = write_dataset(folder, make_manifest(name=name, classes=classes))
    body = {"root": str(root), "name": name, "replace": replace}
    return send_request(guarded, "POST", "/v1/datasets", token, json=body)


def register_own_dataset(stage: Stage, name: str, classes: tuple[str, ...]) -> None:
    stage.add_dataset()
    root = stage.home / "datasets" / f"{name}-{len(classes)}"
    write_dataset(root, make_manifest(name=name, classes=classes))
    registry.register_dataset(root, name=name, replace=True, caller=OWN_RUNNER, ctx=stage.ctx)


def register_own_teacher(stage: Stage, content: bytes) -> None:
    checkpoint = write_checkpoint(stage.home / "teachers" / "big.pth")
    checkpoint.write_bytes(content)
    teacher = registry.TeacherRegistration(
        name="big",
        checkpoint=checkpoint,
        detector=make_detector_spec(),
        classes=CLASSES,
        sha256=None,
        measured_map=None,
        source="",
    )
    registry.register_teacher(teacher, replace=True, caller=OWN_RUNNER, ctx=stage.ctx)
