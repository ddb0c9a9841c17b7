"""A typed client of the API; the CLI uses it too.

with TandemClient("http://127.0.0.1:8700") as tandem:
    run = tandem.launch(RunRequest(preset="digits/bckd"))
    print(tandem.wait(run.id, timeout_s=900).best_map)

The package `tandem` exports it together with the models of requests and answers.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
from httpx_sse import ServerSentEvent, connect_sse
from pydantic import BaseModel

from configs.spec.base import TeacherControl
from service.api.schemas.access import AuditPage, AuditQuery, ProjectRequest, ProjectView
from service.api.schemas.health import HealthView
from service.api.schemas.methods import MethodsView
from service.api.schemas.registry import (
    DatasetRequest,
    DatasetView,
    PresetView,
    StatisticsView,
    TeacherRequest,
    TeacherView,
)
from service.api.schemas.run_details import AttemptView, ComparisonView, MetricView
from service.api.schemas.run_pages import AttemptPage, MetricPage
from service.api.schemas.runs import (
    EvaluationRequest,
    ExportRequest,
    LossSharesView,
    PlanView,
    PriorityRequest,
    RepeatRequest,
    RepeatView,
    RunRequest,
    RunView,
)
from service.client_searches import SearchClient
from service.client_transport import ServiceUnreachable, parse_error, parse_list
from service.domain.ids import is_autopilot_id, is_sweep_id
from service.domain.vocabulary import EventKind, ReportFormat

_RECONNECT_DELAY_S = 0.5
_STREAM_READ_TIMEOUT_S = 45.0
"""Three times the 15 s between two keep-alive comments of a stream."""


class NoComparison(Exception):
    """A run will not be compared with a baseline."""

    def __init__(self, run_id: str, reason: str) -> None:
        super().__init__(f"There is no comparison of run {run_id}: {reason}.")


def _ignore(_view: RunView) -> None:
    pass


class TandemClient(SearchClient):
    """All endpoints for users, with request and response models."""

    def launch(self, request: RunRequest, *, idempotency_key: str | None = None) -> RunView:
        """Launch a run; a repeated idempotency key returns the run of the first request."""
        response = self._launch("/v1/runs", body=request, key=idempotency_key)
        return RunView.model_validate_json(response.content)

    def evaluate(
        self, request: EvaluationRequest, *, idempotency_key: str | None = None
    ) -> RunView:
        """Launch an evaluation of a detector; idempotent by key."""
        response = self._launch("/v1/evaluations", body=request, key=idempotency_key)
        return RunView.model_validate_json(response.content)

    def export(self, request: ExportRequest, *, idempotency_key: str | None = None) -> RunView:
        """Launch an export of a detector to other formats; idempotent by key."""
        response = self._launch("/v1/exports", body=request, key=idempotency_key)
        return RunView.model_validate_json(response.content)

    def plan(self, request: RunRequest) -> PlanView:
        """Resolve and validate a run without launching it."""
        return PlanView.model_validate_json(
            self._request("POST", "/v1/runs:plan", body=request).content
        )

    def run(self, run_id: str) -> RunView:
        """Get a run by its id."""
        return RunView.model_validate_json(self._request("GET", f"/v1/runs/{run_id}").content)

    def wait(
        self,
        run_id: str,
        *,
        timeout_s: float,
        poll_s: float = 0.5,
        on_view: Callable[[RunView], None] = _ignore,
    ) -> RunView:
        """Poll a run until it is over; raise `TimeoutError` after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            view = self.run(run_id)
            on_view(view)
            if view.is_over:
                return view
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"Run {run_id} is still {view.state} after {timeout_s:g} s.")
            time.sleep(poll_s)

    def compare(
        self, run_id: str, *, pairs: int = 1, timeout_s: float, poll_s: float = 0.5
    ) -> ComparisonView:
        """Wait until a distilled run is compared with its baseline, over `pairs` seeds or more.

        Raises `NoComparison` if that will not happen, `TimeoutError` after `timeout_s`.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            run = self.run(run_id)
            if run.comparison is not None and max(1, len(run.comparison.gains)) >= pairs:
                return run.comparison
            if run.is_over and (reason := self.explain_missing_comparison(run)):
                raise NoComparison(run_id, reason)
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"Run {run_id} is not compared after {timeout_s:g} s.")
            time.sleep(poll_s)

    def explain_missing_comparison(self, run: RunView) -> str | None:
        """Explain why a run that is over will not be compared; None if it may still be."""
        if run.baseline_run_id is None or run.state != "succeeded":
            return "the run is not compared"
        if run.is_baseline_lost:
            return f"the baseline {run.baseline_run_id} has failed or is cancelled"
        report = None if run.report_run_id is None else self.run(run.report_run_id)
        if report is not None and report.state in ("failed", "cancelled"):
            has = "has failed" if report.state == "failed" else "is cancelled"
            return f"the report {report.id} {has}; `tandem logs {report.id}` shows the reason"
        if any(event.kind is EventKind.NO_VERDICT for event in self.events(run.id)):
            return f"the report found nothing to compare; see `tandem report {run.id}`"
        return None

    def attempts(self, run_id: str) -> list[AttemptView]:
        """List the attempts of a run."""
        pages = self._iter_pages(AttemptPage, f"/v1/runs/{run_id}/attempts")
        return [attempt for page in pages for attempt in page.items]

    def metrics(self, run_id: str, *, key: str | None = None) -> list[MetricView]:
        """List the metric values of a run, optionally of one key."""
        return list(self.iter_metrics(run_id, key=key))

    def iter_metrics(self, run_id: str, *, key: str | None = None) -> Iterator[MetricView]:
        """Iterate over the metric values of a run without holding all of them in memory."""
        params = {} if key is None else {"key": key}
        for page in self._iter_pages(MetricPage, f"/v1/runs/{run_id}/metrics", params):
            yield from page.items

    def loss_shares(self, run_id: str) -> LossSharesView:
        """Get each loss term's share of the gradient."""
        response = self._request("GET", f"/v1/runs/{run_id}/loss-budget")
        return LossSharesView.model_validate_json(response.content)

    def report(self, subject_id: str, *, format: ReportFormat = "md") -> str:
        """Get the newest report of a run or a sweep, or that of an autopilot as of now."""
        return self._request("GET", self.report_path(subject_id), params={"format": format}).text

    def create_report(self, run_id: str) -> RunView:
        """Launch a report of a run; return the run that writes it."""
        return self._run_action(run_id, "report")

    def follow_logs(self, run_id: str, *, reconnect_timeout_s: float = 120.0) -> Iterator[str]:
        """Stream the worker's log until the run is over.

        Reconnect after a lost connection, for up to `reconnect_timeout_s`, and resume the stream.
        """
        event_id, lost_at_s = "", None
        while True:
            try:
                for event in self._stream_log(run_id, event_id):
                    if event.event == "end":
                        return
                    lost_at_s, event_id = None, event.id or event_id
                    yield event.data
            except httpx.TransportError as error:
                lost_at_s = lost_at_s or time.monotonic()
                if time.monotonic() - lost_at_s > reconnect_timeout_s:
                    raise ServiceUnreachable(self.url) from error
            time.sleep(_RECONNECT_DELAY_S)

    def _stream_log(self, run_id: str, last_event_id: str) -> Iterator[ServerSentEvent]:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        with connect_sse(
            self._http,
            "GET",
            f"/v1/runs/{run_id}/logs",
            params={"follow": True},
            headers=headers,
            timeout=httpx.Timeout(30.0, read=_STREAM_READ_TIMEOUT_S),
        ) as source:
            if not source.response.is_success:
                source.response.read()
                raise parse_error(source.response)
            yield from source.iter_sse()

    def cancel(self, run_id: str) -> RunView:
        """Cancel a run; it keeps its checkpoints."""
        return self._run_action(run_id, "cancel")

    def pause(self, run_id: str) -> RunView:
        """Stop a run with a checkpoint until it is resumed."""
        return self._run_action(run_id, "pause")

    def resume(self, run_id: str) -> RunView:
        """Queue a paused run again, from its last checkpoint."""
        return self._run_action(run_id, "resume")

    def retry(self, run_id: str) -> RunView:
        """Queue a failed or cancelled run again."""
        return self._run_action(run_id, "retry")

    def prioritize(self, run_id: str, priority: int) -> RunView:
        """Change the priority of a run."""
        return self._run_action(run_id, "prioritize", body=PriorityRequest(priority=priority))

    def repeat(
        self,
        run_id: str,
        *,
        seeds: int = 3,
        pack: bool | None = None,
        controls: tuple[TeacherControl, ...] = (),
    ) -> RepeatView:
        """Repeat a distilled run and its baseline until there are `seeds` seeds in all, each with
        these controls and those that the run has."""
        body = RepeatRequest(seeds=seeds, pack=pack, controls=controls)
        response = self._request("POST", f"/v1/runs/{run_id}:repeat", body=body)
        return RepeatView.model_validate_json(response.content)

    def report_path(self, subject_id: str) -> str:
        """Path of the report of a run, a sweep or an autopilot, relative to the service's URL."""
        collection = "sweeps" if is_sweep_id(subject_id) else "runs"
        if is_autopilot_id(subject_id):
            collection = "autopilots"
        return f"/v1/{collection}/{subject_id}/report"

    def register_dataset(
        self, root: Path, *, name: str | None = None, replace: bool = False
    ) -> DatasetView:
        """Register the dataset in a folder under a name."""
        body = DatasetRequest(root=str(root), name=name, replace=replace)
        return DatasetView.model_validate_json(
            self._request("POST", "/v1/datasets", body=body).content
        )

    def datasets(self) -> list[DatasetView]:
        """List the registered datasets."""
        return parse_list(DatasetView, self._request("GET", "/v1/datasets"))

    def dataset(self, name: str) -> DatasetView:
        """Get a registered dataset by its name."""
        response = self._request("GET", f"/v1/datasets/{name}")
        return DatasetView.model_validate_json(response.content)

    def dataset_statistics(self, name: str) -> StatisticsView:
        """Get the images, classes and object sizes of a dataset.

        `TandemApiError` with the code `statistics_not_found` if no worker has computed them.
        """
        response = self._request("GET", f"/v1/datasets/{name}/statistics")
        return StatisticsView.model_validate_json(response.content)

    def register_teacher(self, request: TeacherRequest) -> TeacherView:
        """Register a trained detector as a teacher."""
        return TeacherView.model_validate_json(
            self._request("POST", "/v1/teachers", body=request).content
        )

    def teachers(self) -> list[TeacherView]:
        """List the registered teachers."""
        return parse_list(TeacherView, self._request("GET", "/v1/teachers"))

    def presets(self) -> list[PresetView]:
        """List the presets of the service."""
        return parse_list(PresetView, self._request("GET", "/v1/presets"))

    def methods(self) -> MethodsView:
        """List distillation methods, also those of other packages that the workers have."""
        return MethodsView.model_validate_json(self._request("GET", "/v1/methods").content)

    def refresh_methods(self) -> MethodsView:
        """Ask the workers again which methods of other packages they have."""
        response = self._request("POST", "/v1/methods:refresh")
        return MethodsView.model_validate_json(response.content)

    def projects(self) -> list[ProjectView]:
        """List projects with their own limits or weight."""
        return parse_list(ProjectView, self._request("GET", "/v1/projects"))

    def project(self, name: str) -> ProjectView:
        """Get a project; one without its own settings has the defaults."""
        response = self._request("GET", f"/v1/projects/{name}")
        return ProjectView.model_validate_json(response.content)

    def set_project(self, name: str, request: ProjectRequest) -> ProjectView:
        """Set a project's weight and limits."""
        response = self._request("PUT", f"/v1/projects/{name}", body=request)
        return ProjectView.model_validate_json(response.content)

    def audit(self, query: AuditQuery | None = None) -> AuditPage:
        """List audited requests, the newest first."""
        params = (query or AuditQuery()).model_dump(mode="json", exclude_none=True)
        return AuditPage.model_validate_json(
            self._request("GET", "/v1/audit", params=params).content
        )

    def health(self) -> HealthView:
        """Get the readiness of the service and its dependencies."""
        response = self._send("GET", "/readyz")
        if response.status_code not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
            raise parse_error(response)
        return HealthView.model_validate_json(response.content)

    def _run_action(self, run_id: str, action: str, *, body: BaseModel | None = None) -> RunView:
        response = self._request("POST", f"/v1/runs/{run_id}:{action}", body=body)
        return RunView.model_validate_json(response.content)
