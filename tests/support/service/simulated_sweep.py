"""A sweep on the stage: the test plays its driver, and what its runs' workers tell and leave."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from configs.protocol.names import RunFile
from configs.protocol.probe import Costs, ParameterEffect, Probe
from configs.protocol.records import Metrics, Outcome, Progress, Record
from tests.support.factories import a_bckd_spec
from tests.support.service.stage import Stage

STEPS_AN_EPOCH = 10
EPOCHS = 4
MAP = "val/bbox_mAP"
CLS, LOC = "distillation.cls_weight", "distillation.loc_weight"


def a_sweep(**changes: Any) -> dict[str, Any]:
    """A request that is valid: two weights, four trials at random."""
    body: dict[str, Any] = {
        "spec": a_bckd_spec(schedule={"epochs": EPOCHS}),
        "space": {
            CLS: {"kind": "loguniform", "low": 0.1, "high": 10.0},
            LOC: {"kind": "choice", "values": [0, 1, 2]},
        },
        "algorithm": {"kind": "random"},
        "budget": {"trials": 4},
        "name": "weights",
        "baseline": False,
        "noise_runs": 0,
        "pack": "off",
    }
    return body | changes


def a_probe(**changes: Any) -> Probe:
    """What a probe finds where both weights do something."""
    costs = Costs(
        load_s=0.1,
        teacher_s=0.4,
        student_s=0.2,
        evaluation_s=1.0,
        steps_per_epoch=STEPS_AN_EPOCH,
        base_bytes=1000,
        member_bytes=500,
        available_bytes=2100,
        device="cpu",
    )
    probe = Probe(
        effects={
            path: ParameterEffect(has_effect=True, detail="the losses") for path in (CLS, LOC)
        },
        costs=costs,
        detection_loss=2.0,
        unit_losses={CLS: 0.5, LOC: 0.25},
        teacher_map=0.4,
    )
    return probe.model_copy(update=changes)


@dataclass
class SimulatedSweep:
    """One sweep; what is asked of the service is asked over HTTP."""

    stage: Stage
    id: str
    said: dict[str, list[Record]] = field(default_factory=dict)

    @property
    def view(self) -> dict[str, Any]:
        return dict(self.stage.http.get(f"/v1/sweeps/{self.id}").json())

    @property
    def state(self) -> str:
        return str(self.view["state"])

    @property
    def trials(self) -> list[dict[str, Any]]:
        return list(self.stage.http.get(f"/v1/sweeps/{self.id}/trials").json())

    @property
    def entries(self) -> list[dict[str, Any]]:
        return list(self.log()["entries"])

    def log(self) -> dict[str, Any]:
        return dict(self.stage.http.get(f"/v1/sweeps/{self.id}/log").json())

    def progress(self) -> dict[int, dict[str, Any]]:
        told = self.stage.http.get(f"/v1/sweeps/{self.id}/progress").json()
        return {trial["number"]: trial for trial in told["trials"]}

    def write(self, *entries: dict[str, Any], first: int | None = None) -> httpx.Response:
        at = len(self.entries) if first is None else first
        body = {"first": at, "entries": list(entries)}
        return self.stage.http.post(f"/v1/sweeps/{self.id}/log", json=body)

    def suggest(self, number: int, **values: Any) -> list[str]:
        """A trial begins; the ids of its runs."""
        known = values or {CLS: 1.0, LOC: 1}
        entry = {"kind": "suggested", "number": number, "values": known}
        assert self.write(entry).is_success
        return self.runs(number)

    def end(self, number: int, result: str, epoch: int, **values: float) -> httpx.Response:
        told = {name.replace("_", "/", 1): value for name, value in values.items()}
        return self.write(
            {"kind": "ended", "number": number, "result": result, "epoch": epoch, "values": told}
        )

    def close(self, why: str = "All trials have ended.") -> httpx.Response:
        return self.write({"kind": "closed", "why": why})

    def runs(self, trial: int) -> list[str]:
        return [run["id"] for run in self.trials[trial]["runs"]]

    def tell(self, run_id: str, epoch: int, value: float, *, metric: str = MAP) -> None:
        """A run's worker says what it measured after an epoch."""
        step, now = epoch * STEPS_AN_EPOCH, self.stage.clock.now()
        attempt = self.stage.run(run_id)["attempt"]
        self.deliver(
            run_id,
            Progress(
                at=now,
                attempt=attempt,
                phase="training",
                epoch=epoch,
                epochs=EPOCHS,
                step=step,
                steps=EPOCHS * STEPS_AN_EPOCH,
                eta_s=None,
            ),
            Metrics(at=now, attempt=attempt, step=step, values={metric: value}),
        )

    def deliver(self, run_id: str, *records: Record) -> dict[str, Any]:
        known = self.said.setdefault(run_id, [])
        attempt = self.stage.run(run_id)["attempt"]
        body = {
            "first": len(known),
            "records": [record.model_dump(mode="json") for record in records],
        }
        known += records
        url = f"/v1/runs/{run_id}/attempts/{attempt}/deliveries"
        response = self.stage.http.post(url, json=body)
        assert response.is_success, response.text
        return dict(response.json())

    def finish(self, run_id: str, result: str = "succeeded") -> None:
        """A run's worker leaves, and its job is over."""
        attempt = self.stage.run(run_id)["attempt"]
        outcome = Outcome.model_validate(
            {
                "at": self.stage.clock.now(),
                "attempt": attempt,
                "result": result,
                "reason": "bug" if result == "failed" else None,
                "message": "it broke" if result == "failed" else "",
            }
        )
        self.deliver(run_id, outcome)
        is_well = result == "succeeded"
        job = f"{run_id}-a{attempt}"
        self.stage.cluster.set_job_state(job, "succeeded" if is_well else "failed", exit_code=0)
        self.stage.turn()

    def leave_probe(self, probe: Probe | None = None) -> None:
        """The probe's run ends well and leaves what it found."""
        run_id = self.view["probe_run_id"]
        found = probe or a_probe()
        self.leave(run_id, RunFile.PROBE, found.model_dump_json())
        self.finish(run_id)
        self.stage.turn()

    def leave_report(self, *, result: str = "succeeded") -> str:
        run_id = str(self.view["report_run_id"])
        self.leave(run_id, RunFile.REPORT_PAGE, "<h1>Did it help?</h1>")
        self.leave(run_id, RunFile.REPORT_MARKDOWN, "# Did it help?")
        self.leave(run_id, RunFile.REPORT_JSON, json.dumps({"title": "Did it help?"}))
        self.finish(run_id, result)
        return run_id

    def leave(self, run_id: str, name: str, content: str) -> None:
        path = self.stage.home / "runs" / run_id / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def launch_sweep(stage: Stage, **changes: Any) -> SimulatedSweep:
    """A sweep that begins, over a dataset and a teacher that are there."""
    stage.add_dataset()
    stage.add_teacher()
    response = stage.http.post("/v1/sweeps", json=a_sweep(**changes))
    assert response.status_code == 201, response.text
    return SimulatedSweep(stage, response.json()["id"])


def searching_sweep(stage: Stage, **changes: Any) -> SimulatedSweep:
    """A sweep whose first driver was submitted, without a probe."""
    sweep = launch_sweep(stage, **{"probe": False, **changes})
    stage.turn()
    return sweep


def trained(sweep: SimulatedSweep, number: int, value: float, **values: Any) -> str:
    """A trial that was trained to its end, and its run."""
    (run_id,) = sweep.suggest(number, **values)
    sweep.stage.turn()
    sweep.tell(run_id, 4, value)
    sweep.finish(run_id)
    assert sweep.end(number, "finished", 4, val_bbox_mAP=value).is_success
    return run_id


def closed(sweep: SimulatedSweep) -> SimulatedSweep:
    """The search is closed and the report is made."""
    assert sweep.close().is_success
    sweep.stage.turn()
    sweep.stage.turn()
    sweep.leave_report()
    return sweep
