"""Jobs of a trained student on the real stack: evaluation, loss shares and export."""

import json
from pathlib import Path

import pytest

from configs.metric_keys import Metric
from configs.protocol.names import RunFile
from service.api.schemas.run_lists import RunQuery
from service.api.schemas.runs import EvaluationRequest, RunRequest
from service.client import TandemClient
from service.domain.states import RunState
from tests.support.stack.shell import Shell

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TIMEOUT_S = 240


def test_a_student_is_measured_exported_and_asked(
    shell: Shell, client: TandemClient, tmp_path: Path
) -> None:
    teacher = client.launch(RunRequest(preset="quick/instant"))
    changes = {"teacher": {"run": teacher.id}, "distillation.method": "bckd", "seed": 1}
    student = client.launch(
        RunRequest(preset="quick/instant", changes=changes | {"loss_shares_every_steps": 5})
    )
    request = {"model": {"run": student.id}, "data": {"dataset": {"name": "digits-tiny"}}}
    evaluation = client.evaluate(EvaluationRequest.model_validate(request))

    ended = client.wait(evaluation.id, timeout_s=TIMEOUT_S)

    trained = client.run(student.id)
    assert trained.state is RunState.SUCCEEDED, trained.message
    assert ended.state is RunState.SUCCEEDED, ended.message
    assert ended.latest[Metric.MAP] == pytest.approx(trained.best_map, abs=1e-6)
    assert ended.latest["val/bbox_AR_100"] >= 0
    folder = Path(shell.home) / "runs" / evaluation.id
    document = json.loads((folder / RunFile.EVALUATION).read_text())
    assert document["speed"]["images_per_s"] > 0
    assert (folder / RunFile.CURVES_PICTURE).stat().st_size > 1000

    budget = client.loss_shares(student.id)
    assert {part.term for part in budget.parts if part.is_distillation} == {
        "distill_cls",
        "distill_loc",
    }
    assert "of the gradient" in shell.run("loss-shares", student.id)
    assert "val/bbox_mAP" in shell.run("evaluate", student.id, "--data", "digits-tiny", "--watch")

    output = shell.run("export", student.id, "--format", "onnx", "--watch")
    export = client.runs(RunQuery(task=("export",))).items[0]
    assert export.state is RunState.SUCCEEDED
    assert export.id in output
    image = sorted((Path(shell.home) / "datasets" / "digits-tiny" / "images" / "val").iterdir())[0]
    for model in (student.id, export.id):
        drawn = tmp_path / model
        shell.run("predict", model, str(image), "--out", str(drawn), "--score", "0")
        assert (drawn / f"{image.stem}.png").exists()
