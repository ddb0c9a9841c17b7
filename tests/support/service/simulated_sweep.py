"""A sweep in a `Stage`: the test acts as its driver and as the workers of its runs."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from configs.protocol.names import RunFile
from configs.protocol.probe import Costs, ParameterEffect, Probe
from configs.protocol.records import Metrics, Outcome, Progress, Record
from tests.support.factories import make_bckd_spec
from tests.support.service.stage import Stage

STEPS_PER_EPOCH = 10
EPOCHS = 4
MAP = "val/bbox_mAP"
CLS, LOC = "distillation.cls_weight", "distillation.loc_weight"


def make_sweep_request(**changes: Any) -> dict[str, Any]:
    """Make a valid request for a random search of two weights in four trials."""
    body: dict[str, Any] = {
        "spec": make_bckd_spec(schedule={"epochs": EPOCHS}),
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


def make_probe(**changes: Any) -> Probe:
    """Make the finding of a probe in which both weights have an effect."""
    costs = Costs(
        load_s=0.1,
        teacher_s=0.4,
        student_s=0.2,
        evaluation_s=1.0,
        steps_per_epoch=STEPS_PER_EPOCH,
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
    """Sends the requests of a sweep's driver and workers over HTTP."""

    stage: Stage
    id: str
    records: dict[str, list[Record]] = field(default_factory=dict)

    @property
    def view(self) -> dict[str, Any]:
        return dict(self.stage.http.get(f"/v1/sweeps/{self.id}").json())

    @property
    def state(self) -> str:
        return str(self.view["state"])

    @property
    def trials(self) -> list[dict[str, Any]]:
        return list(self.stage.http.get(f"/v1/sweeps/{self.id}/trials").json()["items"])

    @property
    def entries(self) -> list[dict[str, Any]]:
        return list(self.log()["entries"])

    def log(self) -> dict[str, Any]:
        return dict(self.stage.http.get(f"/v1/sweeps/{self.id}/log").json())

    def progress(self) -> dict[int, dict[str, Any]]:
        progress = self.stage.http.get(f"/v1/sweeps/{self.id}/standings").json()
        return {trial["number"]: trial for trial in progress["trials"]}

    def write(self, *entries: dict[str, Any], first: int | None = None) -> httpx.Response:
        position = len(self.entries) if first is None else first
        body = {"first": position, "entries": list(entries)}
        return self.stage.http.post(f"/v1/sweeps/{self.id}/log", json=body)

    def suggest(self, number: int, **values: Any) -> list[str]:
        """Suggest a trial; returns the ids of its runs."""
        trial_values = values or {CLS: 1.0, LOC: 1}
        entry = {"kind": "suggested", "number": number, "values": trial_values}
        assert self.write(entry).is_success
        return self.runs(number)

    def end(self, number: int, result: str, epoch: int, **values: float) -> httpx.Response:
        metrics = {name.replace("_", "/", 1): value for name, value in values.items()}
        return self.write(
            {"kind": "ended", "number": number, "result": result, "epoch": epoch, "values": metrics}
        )

    def close(self, reason: str = "All trials have ended.") -> httpx.Response:
        return self.write({"kind": "closed", "why": reason})

    def runs(self, trial: int) -> list[str]:
        return [run["id"] for run in self.trials[trial]["runs"]]

    def report_evaluation(
        self, run_id: str, epoch: int, value: float, *, metric: str = MAP
    ) -> None:
        """Deliver a run's metric after an epoch."""
        step, now = epoch * STEPS_PER_EPOCH, self.stage.clock.now()
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
                steps=EPOCHS * STEPS_PER_EPOCH,
                eta_s=None,
            ),
            Metrics(at=now, attempt=attempt, step=step, values={metric: value}),
        )

    def deliver(self, run_id: str, *records: Record) -> dict[str, Any]:
        delivered = self.records.setdefault(run_id, [])
        attempt = self.stage.run(run_id)["attempt"]
        body = {
            "first": len(delivered),
            "records": [record.model_dump(mode="json") for record in records],
        }
        delivered += records
        url = f"/v1/runs/{run_id}/attempts/{attempt}/deliveries"
        response = self.stage.http.post(url, json=body)
        assert response.is_success, response.text
        return dict(response.json())

    def finish(self, run_id: str, result: str = "succeeded") -> None:
        """Deliver the outcome of a run and end its job."""
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
        is_success = result == "succeeded"
        job = f"{run_id}-a{attempt}"
        self.stage.cluster.set_job_state(job, "succeeded" if is_success else "failed", exit_code=0)
        self.stage.run_loops()

    def finish_probe(self, probe: Probe | None = None) -> None:
        """Write the finding of the probe's run and let it succeed."""
        run_id = self.view["probe_run_id"]
        finding = probe or make_probe()
        self.write_file(run_id, RunFile.PROBE, finding.model_dump_json())
        self.finish(run_id)
        self.stage.run_loops()

    def finish_report(self, *, result: str = "succeeded") -> str:
        run_id = str(self.view["report_run_id"])
        self.write_file(run_id, RunFile.REPORT_PAGE, "<h1>Did it help?</h1>")
        self.write_file(run_id, RunFile.REPORT_MARKDOWN, "# Did it help?")
        self.write_file(run_id, RunFile.REPORT_JSON, json.dumps({"title": "Did it help?"}))
        self.finish(run_id, result)
        return run_id

    def write_file(self, run_id: str, name: str, content: str) -> None:
        path = self.stage.home / "runs" / run_id / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def launch_sweep(stage: Stage, **changes: Any) -> SimulatedSweep:
    """Launch a sweep with an existing dataset and teacher."""
    stage.add_dataset()
    stage.add_teacher()
    response = stage.http.post("/v1/sweeps", json=make_sweep_request(**changes))
    assert response.status_code == 201, response.text
    return SimulatedSweep(stage, response.json()["id"])


def start_search(stage: Stage, **changes: Any) -> SimulatedSweep:
    """Launch a sweep without a probe and submit its driver."""
    sweep = launch_sweep(stage, **{"probe": False, **changes})
    stage.run_loops()
    return sweep


def train_trial(sweep: SimulatedSweep, number: int, value: float, **values: Any) -> str:
    """Train a trial to its end; returns the id of its run."""
    (run_id,) = sweep.suggest(number, **values)
    sweep.stage.run_loops()
    sweep.report_evaluation(run_id, 4, value)
    sweep.finish(run_id)
    assert sweep.end(number, "finished", 4, val_bbox_mAP=value).is_success
    return run_id


def complete_sweep(sweep: SimulatedSweep) -> SimulatedSweep:
    """Close the search and finish its report."""
    assert sweep.close().is_success
    sweep.stage.run_loops()
    sweep.stage.run_loops()
    sweep.finish_report()
    return sweep
