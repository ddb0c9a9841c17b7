"""Workers and search drivers of the simulated cluster, for commands that wait for their results."""

from typing import Any

from configs.protocol.comparison import MAP_PARTS, Comparison
from configs.protocol.names import ExitCode, RunFile
from configs.protocol.probe import ParameterEffect
from configs.protocol.records import Delivery, Metrics, Outcome, Progress, Record, Result
from configs.protocol.report import Report
from service.domain.ports import JobState, Node
from tests.support.service.baseline_pairs import make_comparison
from tests.support.service.simulated_sweep import SimulatedSweep, make_probe
from tests.support.service.stage import Stage

STEPS_PER_EPOCH = 10
MOST_STEPS = 30
_MAP = 0.3
_ACTIVE = ("starting", "running")
_LARGE_NODE = Node(64.0, 0.0, 64.0, 0.0)
_EXIT_CODES: dict[Result, ExitCode] = {
    "succeeded": ExitCode.SUCCEEDED,
    "cancelled": ExitCode.CANCELLED,
    "stopped": ExitCode.STOPPED,
}


class SimulatedWorkers:
    """All workers of a stage: they obey requests to stop, and finish runs and sweeps when asked."""

    def __init__(self, stage: Stage, delivered: dict[str, int]) -> None:
        """`delivered` counts the records of each run, also before a restart of the service."""
        self.stage = stage
        stage.cluster.cluster_nodes = (_LARGE_NODE,)
        self._delivered = delivered

    def start_runs(self) -> None:
        """Start what is queued; runs that were asked to stop end."""
        self._turn()
        for run in self._active_runs():
            self._obey(run)
        self._turn()

    def finish_step(self) -> None:
        """Finish all runs that have started, and advance each sweep."""
        self._turn()
        for run in self._active_runs():
            if not self._obey(run):
                self._write_results(run)
                self._deliver(run, *self._training_records(run))
                self._leave(run, "succeeded")
        for sweep in self._items("sweeps"):
            if sweep["state"] == "searching":
                self._search(SimulatedSweep(self.stage, sweep["id"]))

    def finish_all(self) -> None:
        """Finish runs and sweeps until none is unfinished; raise `AssertionError` if one hangs."""
        for _ in range(MOST_STEPS):
            if not self._unfinished():
                return
            self.finish_step()
        raise AssertionError(f"unfinished: {self.describe_unfinished()}")

    def describe_unfinished(self) -> str:
        """The unfinished runs and sweeps, with what each waits for."""
        return ", ".join(
            f"{item['id']} {item['state']} ({item['waiting_for']})" for item in self._unfinished()
        )

    def _obey(self, run: dict[str, Any]) -> bool:
        """Start a run's attempt; whether it was asked to stop, and did."""
        request = self._deliver(run)["stop"]
        if request is not None:
            self._leave(run, "cancelled" if request == "cancel" else "stopped")
        return request is not None

    def _turn(self) -> None:
        self.stage.run_loops()
        self.stage.clock.advance(10)

    def _items(self, collection: str) -> list[dict[str, Any]]:
        response = self.stage.http.get(f"/v1/{collection}")
        assert response.is_success, response.text
        return list(response.json()["items"])

    def _active_runs(self) -> list[dict[str, Any]]:
        active = [run["id"] for run in self._items("runs") if run["state"] in _ACTIVE]
        return [self.stage.run(run_id) for run_id in active]

    def _unfinished(self) -> list[dict[str, Any]]:
        items = [*self._items("runs"), *self._items("sweeps")]
        return [item for item in items if item["finished_at"] is None and item["state"] != "paused"]

    def _deliver(self, run: dict[str, Any], *records: Record) -> dict[str, Any]:
        first = self._delivered.get(run["id"], 0)
        self._delivered[run["id"]] = first + len(records)
        body = Delivery(first=first, records=records).model_dump(mode="json")
        url = f"/v1/runs/{run['id']}/attempts/{run['attempt']}/deliveries"
        response = self.stage.http.post(url, json=body)
        assert response.is_success, response.text
        return dict(response.json())

    def _leave(self, run: dict[str, Any], result: Result) -> None:
        """Report the outcome and end the job of a run."""
        now, attempt = self.stage.clock.now(), run["attempt"]
        self._deliver(run, Outcome(at=now, attempt=attempt, result=result))
        state: JobState = "succeeded" if result == "succeeded" else "failed"
        exit_code = _EXIT_CODES[result]
        self.stage.cluster.set_job_state(f"{run['id']}-a{attempt}", state, exit_code=exit_code)

    def _training_records(self, run: dict[str, Any]) -> list[Record]:
        """Progress and mAP of all epochs of a training; the metrics of an evaluation."""
        if run["task"] not in ("train", "evaluate"):
            return []
        now, attempt = self.stage.clock.now(), run["attempt"]
        epochs = run["spec"]["schedule"]["epochs"] if run["task"] == "train" else 1
        steps = epochs * STEPS_PER_EPOCH
        counts = {"epoch": epochs, "epochs": epochs, "step": steps, "steps": steps}
        scores = {f"val/{part}": _MAP for part in MAP_PARTS}
        return [
            Progress(at=now, attempt=attempt, phase="finishing", eta_s=0.0, **counts),
            Metrics(at=now, attempt=attempt, step=steps, values=scores),
        ]

    def _write_results(self, run: dict[str, Any]) -> None:
        """Write the files of a training, a probe or a report that later commands read."""
        folder = self.stage.home / "runs" / run["id"]
        comparisons = self._comparisons(run)
        report = Report(title="Did it help?", comparisons=comparisons, noise=None, importance={})
        documents = {
            "train": {RunFile.BEST: "weights"},
            "probe": {RunFile.PROBE: self._probe(run)},
            "report": {
                RunFile.REPORT_JSON: report.model_dump_json(),
                RunFile.REPORT_PAGE: "<h1>Did it help?</h1>",
                RunFile.REPORT_MARKDOWN: "# Did it help?\n",
            },
        }
        for name, content in documents.get(run["task"], {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")

    def _comparisons(self, run: dict[str, Any]) -> tuple[Comparison, ...]:
        """The comparison of the run that a report is about, if it has a baseline."""
        subject = run["spec"].get("run") if run["task"] == "report" else None
        baseline_id = self.stage.run(subject)["baseline_run_id"] if subject else None
        return (make_comparison(str(subject), baseline_id),) if baseline_id else ()

    def _probe(self, run: dict[str, Any]) -> str:
        """A probe that finds an effect of every parameter, and no memory for a second student."""
        spaces = [sweep["spec"]["space"] for sweep in self._items("sweeps")]
        effect = ParameterEffect(has_effect=True, detail="the losses")
        probe = make_probe(effects={path: effect for space in spaces for path in space})
        costs = probe.costs.model_copy(update={"available_bytes": probe.costs.base_bytes})
        return probe.model_copy(update={"costs": costs}).model_dump_json()

    def _search(self, sweep: SimulatedSweep) -> None:
        """Suggest a trial, also after an extension; when it is over, end it and the search."""
        view, entries = sweep.view, sweep.entries
        is_begun = any(entry["kind"] == "suggested" for entry in entries)
        if not is_begun or entries[-1]["kind"] == "extended":
            values = {path: _first_value(bounds) for path, bounds in view["spec"]["space"].items()}
            sweep.suggest(len(sweep.trials), **values)
            return
        ended = {entry["number"] for entry in entries if entry["kind"] == "ended"}
        running = [trial for trial in sweep.trials if trial["number"] not in ended]
        runs = [self.stage.run(run["id"]) for trial in running for run in trial["runs"]]
        if any(run["finished_at"] is None for run in runs):
            return
        epochs = view["spec"]["base"]["schedule"]["epochs"]
        for trial in running:
            result = "cancelled" if view["desired"] == "stop" else "finished"
            answer = sweep.end(trial["number"], result, epochs, val_bbox_mAP=_MAP)
            assert answer.is_success, answer.text
        assert sweep.close().is_success


def _first_value(bounds: dict[str, Any]) -> Any:
    return bounds["values"][0] if bounds["kind"] == "choice" else bounds["low"]
