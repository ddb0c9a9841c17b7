"""An autopilot over HTTP, whose runs all have the same mAP."""

from dataclasses import dataclass
from typing import Any

from tests.support.documents.workers import SimulatedWorkers
from tests.support.factories import make_bckd_spec
from tests.support.service.stage import Stage

_MOST_TURNS = 60


def make_autopilot_request(**changes: Any) -> dict[str, Any]:
    """A valid request: one teacher, one student, four epochs, two hours."""
    body: dict[str, Any] = {
        "spec": make_bckd_spec(schedule={"epochs": 4}),
        "budget": {"hours": 2.0},
        "name": "pets",
    }
    return body | changes


@dataclass
class HttpAutopilot:
    """Advances the loops of a service and the runs of an autopilot."""

    stage: Stage
    id: str
    workers: SimulatedWorkers

    @property
    def view(self) -> dict[str, Any]:
        return dict(self.stage.http.get(f"/v1/autopilots/{self.id}").json())

    @property
    def decisions(self) -> list[dict[str, Any]]:
        return list(self.stage.http.get(f"/v1/autopilots/{self.id}/decisions").json()["items"])

    def act(self, action: str, **body: Any) -> dict[str, Any]:
        """An action of a person; with a body if there are fields."""
        path = f"/v1/autopilots/{self.id}:{action}"
        response = self.stage.http.post(path, json=body or None)
        assert response.is_success, response.text
        return dict(response.json())

    def finish_probes(self) -> None:
        """Let the probes end, so that the plan is known."""
        self.stage.autopilots.run_once()
        while self.view["phase"] == "probing":
            self.workers.finish_step()
            self.stage.autopilots.run_once()

    def advance(self) -> None:
        """Finish what trains, and decide."""
        self.workers.finish_step()
        self.stage.autopilots.run_once()

    def finish(self) -> None:
        """Advance until the autopilot is over."""
        for _ in range(_MOST_TURNS):
            if self.view["finished_at"] is not None:
                return
            self.advance()
        raise AssertionError(f"autopilot {self.id} is {self.view['phase']}")


def launch_autopilot(stage: Stage, **changes: Any) -> HttpAutopilot:
    """Launch an autopilot with an existing dataset and teacher."""
    stage.add_dataset()
    stage.add_teacher()
    response = stage.http.post("/v1/autopilots", json=make_autopilot_request(**changes))
    assert response.status_code == 201, response.text
    return HttpAutopilot(stage, response.json()["id"], SimulatedWorkers(stage, {}))
