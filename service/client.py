"""A typed client of the API: the CLI and the end-to-end tests use it, and so can you.

with TandemClient("http://127.0.0.1:8700") as tandem:
    run = tandem.launch(RunRequest(preset="digits/bckd"))
    print(tandem.wait(run.id, timeout_s=900).best_map)
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
from httpx_sse import ServerSentEvent, connect_sse
from pydantic import BaseModel

from service.api.schemas.access import AuditPage, AuditQuery, ProjectRequest, ProjectView
from service.api.schemas.health import HealthView
from service.api.schemas.registry import (
    DatasetRequest,
    DatasetView,
    PresetView,
    TeacherRequest,
    TeacherView,
)
from service.api.schemas.runs import (
    AttemptView,
    EvaluationRequest,
    EventView,
    ExportRequest,
    LogQuery,
    LossSharesView,
    MetricView,
    NoiseView,
    PlanView,
    PriorityRequest,
    RepeatRequest,
    RepeatView,
    RunPage,
    RunQuery,
    RunRequest,
    RunView,
)
from service.api.schemas.sweeps import (
    ExtendRequest,
    PromoteRequest,
    SweepPage,
    SweepPlanView,
    SweepQuery,
    SweepRequest,
    SweepView,
    TrialView,
)
from service.client_transport import ApiTransport, parse_error, parse_list
from service.client_transport import ServiceUnreachable as ServiceUnreachable
from service.client_transport import TandemApiError as TandemApiError
from service.domain.repositories.baselines import ReportFormat

_AGAIN_AFTER_S = 0.5
_SILENCE_S = 45.0
"""A stream says every 15 s that it lives."""


def _look_away(_view: RunView) -> None:
    pass


class TandemClient(ApiTransport):
    """Everything that a person can ask, with its types."""

    def launch(self, request: RunRequest, *, idempotency_key: str | None = None) -> RunView:
        """Launch a run; the same key gives the same run."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        response = self._request("POST", "/v1/runs", body=request, headers=headers)
        return RunView.model_validate_json(response.content)

    def evaluate(
        self, request: EvaluationRequest, *, idempotency_key: str | None = None
    ) -> RunView:
        """Measure a detector; the same key gives the same evaluation."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        response = self._request("POST", "/v1/evaluations", body=request, headers=headers)
        return RunView.model_validate_json(response.content)

    def export(self, request: ExportRequest, *, idempotency_key: str | None = None) -> RunView:
        """Write a detector in formats of others; the same key gives the same export."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        response = self._request("POST", "/v1/exports", body=request, headers=headers)
        return RunView.model_validate_json(response.content)

    def plan(self, request: RunRequest) -> PlanView:
        """The dry run."""
        return PlanView.model_validate_json(
            self._request("POST", "/v1/runs:plan", body=request).content
        )

    def runs(self, query: RunQuery | None = None) -> RunPage:
        """Runs, newest first."""
        params = (query or RunQuery()).model_dump(mode="json", exclude_none=True)
        return RunPage.model_validate_json(self._request("GET", "/v1/runs", params=params).content)

    def run(self, run_id: str) -> RunView:
        """One run."""
        return RunView.model_validate_json(self._request("GET", f"/v1/runs/{run_id}").content)

    def wait(
        self,
        run_id: str,
        *,
        timeout_s: float,
        poll_s: float = 0.5,
        on_view: Callable[[RunView], None] = _look_away,
    ) -> RunView:
        """The run when it is over; `TimeoutError` if it is not in time."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            view = self.run(run_id)
            on_view(view)
            if view.is_over:
                return view
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"Run {run_id} is still {view.state} after {timeout_s:g} s.")
            time.sleep(poll_s)

    def events(self, run_id: str) -> list[EventView]:
        """What happened to a run."""
        return parse_list(EventView, self._request("GET", f"/v1/runs/{run_id}/events"))

    def attempts(self, run_id: str) -> list[AttemptView]:
        """The tries of a run."""
        return parse_list(AttemptView, self._request("GET", f"/v1/runs/{run_id}/attempts"))

    def metrics(self, run_id: str, *, key: str | None = None) -> list[MetricView]:
        """Metric values by key and step."""
        params = {} if key is None else {"key": key}
        return parse_list(
            MetricView, self._request("GET", f"/v1/runs/{run_id}/metrics", params=params)
        )

    def loss_shares(self, run_id: str) -> LossSharesView:
        """What each term of the loss does."""
        answer = self._request("GET", f"/v1/runs/{run_id}/loss-budget")
        return LossSharesView.model_validate_json(answer.content)

    def noise(self, run_id: str) -> NoiseView:
        """By how much runs like this one differ in their seed alone."""
        return NoiseView.model_validate_json(
            self._request("GET", f"/v1/runs/{run_id}/noise").content
        )

    def report(self, about: str, *, format: ReportFormat = "md") -> str:
        """The newest report of a run or a sweep, by its id."""
        return self._request("GET", self.report_path(about), params={"format": format}).text

    def create_report(self, run_id: str) -> RunView:
        """Have a report made of a run; the run that makes it."""
        return self._wish(run_id, "report")

    def logs(self, run_id: str, query: LogQuery | None = None) -> str:
        """What the worker printed."""
        params = (query or LogQuery()).model_dump(mode="json", exclude_defaults=True)
        return self._request("GET", f"/v1/runs/{run_id}/logs", params=params).text

    def follow_logs(self, run_id: str, *, reconnect_timeout_s: float = 120.0) -> Iterator[str]:
        """What the worker prints, until the run is over.

        A connection that is lost is made again, for up to `patience_s`, and goes on where it was.
        """
        place, lost_at_s = "", None
        while True:
            try:
                for piece in self._log_pieces(run_id, place):
                    if piece.event == "end":
                        return
                    lost_at_s, place = None, piece.id or place
                    yield piece.data
            except httpx.TransportError as error:
                lost_at_s = lost_at_s or time.monotonic()
                if time.monotonic() - lost_at_s > reconnect_timeout_s:
                    raise ServiceUnreachable(self.url) from error
            time.sleep(_AGAIN_AFTER_S)

    def _log_pieces(self, run_id: str, place: str) -> Iterator[ServerSentEvent]:
        headers = {"Last-Event-ID": place} if place else {}
        with connect_sse(
            self._http,
            "GET",
            f"/v1/runs/{run_id}/logs",
            params={"follow": True},
            headers=headers,
            timeout=httpx.Timeout(30.0, read=_SILENCE_S),
        ) as source:
            if not source.response.is_success:
                source.response.read()
                raise parse_error(source.response)
            yield from source.iter_sse()

    def cancel(self, run_id: str) -> RunView:
        """Have a run end."""
        return self._wish(run_id, "cancel")

    def pause(self, run_id: str) -> RunView:
        """Have a run leave with a checkpoint until it is resumed."""
        return self._wish(run_id, "pause")

    def resume(self, run_id: str) -> RunView:
        """Queue a paused run again."""
        return self._wish(run_id, "resume")

    def retry(self, run_id: str) -> RunView:
        """Queue a failed or cancelled run again, from its last checkpoint."""
        return self._wish(run_id, "retry")

    def prioritize(self, run_id: str, priority: int) -> RunView:
        """Give a run another place in the queue."""
        return self._wish(run_id, "prioritize", body=PriorityRequest(priority=priority))

    def repeat(self, run_id: str, *, seeds: int = 3, pack: bool | None = None) -> RepeatView:
        """Have a distilled run and its baseline trained with so many seeds in all."""
        body = RepeatRequest(seeds=seeds, pack=pack)
        answer = self._request("POST", f"/v1/runs/{run_id}:repeat", body=body)
        return RepeatView.model_validate_json(answer.content)

    def launch_sweep(
        self, request: SweepRequest, *, idempotency_key: str | None = None
    ) -> SweepView:
        """Search around a run; the same key gives the same sweep."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        response = self._request("POST", "/v1/sweeps", body=request, headers=headers)
        return SweepView.model_validate_json(response.content)

    def plan_sweep(self, request: SweepRequest) -> SweepPlanView:
        """The dry run of a sweep."""
        answer = self._request("POST", "/v1/sweeps:plan", body=request)
        return SweepPlanView.model_validate_json(answer.content)

    def sweeps(self, query: SweepQuery | None = None) -> SweepPage:
        """Sweeps, newest first."""
        params = (query or SweepQuery()).model_dump(mode="json", exclude_none=True)
        return SweepPage.model_validate_json(
            self._request("GET", "/v1/sweeps", params=params).content
        )

    def sweep(self, sweep_id: str) -> SweepView:
        """One sweep."""
        return SweepView.model_validate_json(self._request("GET", f"/v1/sweeps/{sweep_id}").content)

    def trials(self, sweep_id: str) -> list[TrialView]:
        """The trials of a sweep."""
        return parse_list(TrialView, self._request("GET", f"/v1/sweeps/{sweep_id}/trials"))

    def stop_sweep(self, sweep_id: str) -> SweepView:
        """Begin no more trials and end those that go on."""
        answer = self._request("POST", f"/v1/sweeps/{sweep_id}:stop")
        return SweepView.model_validate_json(answer.content)

    def extend_sweep(self, sweep_id: str, request: ExtendRequest) -> SweepView:
        """Have a sweep that is over search on."""
        answer = self._request("POST", f"/v1/sweeps/{sweep_id}:extend", body=request)
        return SweepView.model_validate_json(answer.content)

    def promote(
        self, sweep_id: str, request: PromoteRequest, *, idempotency_key: str | None = None
    ) -> RunView:
        """Launch a sweep's best trial, or another one, as a run of its own."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        path = f"/v1/sweeps/{sweep_id}:promote"
        answer = self._request("POST", path, body=request, headers=headers)
        return RunView.model_validate_json(answer.content)

    def report_path(self, about: str) -> str:
        """Where the report about a sweep or a run is, below the service's address."""
        return f"/v1/{'sweeps' if about.startswith('s') else 'runs'}/{about}/report"

    def register_dataset(
        self, root: Path, *, name: str | None = None, replace: bool = False
    ) -> DatasetView:
        """Give the dataset in a folder a name."""
        body = DatasetRequest(root=str(root), name=name, replace=replace)
        return DatasetView.model_validate_json(
            self._request("POST", "/v1/datasets", body=body).content
        )

    def datasets(self) -> list[DatasetView]:
        """All datasets."""
        return parse_list(DatasetView, self._request("GET", "/v1/datasets"))

    def register_teacher(self, request: TeacherRequest) -> TeacherView:
        """Give a trained detector a name."""
        return TeacherView.model_validate_json(
            self._request("POST", "/v1/teachers", body=request).content
        )

    def teachers(self) -> list[TeacherView]:
        """All teachers."""
        return parse_list(TeacherView, self._request("GET", "/v1/teachers"))

    def presets(self) -> list[PresetView]:
        """All presets."""
        return parse_list(PresetView, self._request("GET", "/v1/presets"))

    def projects(self) -> list[ProjectView]:
        """Projects that have limits or a weight of their own."""
        return parse_list(ProjectView, self._request("GET", "/v1/projects"))

    def project(self, name: str) -> ProjectView:
        """One project."""
        answer = self._request("GET", f"/v1/projects/{name}")
        return ProjectView.model_validate_json(answer.content)

    def set_project(self, name: str, request: ProjectRequest) -> ProjectView:
        """Say how much of the cluster a project's runs may take."""
        answer = self._request("PUT", f"/v1/projects/{name}", body=request)
        return ProjectView.model_validate_json(answer.content)

    def audit(self, query: AuditQuery | None = None) -> AuditPage:
        """Requests that were to change something, the newest first."""
        params = (query or AuditQuery()).model_dump(mode="json", exclude_none=True)
        return AuditPage.model_validate_json(
            self._request("GET", "/v1/audit", params=params).content
        )

    def health(self) -> HealthView:
        """Whether the service and what it needs answer."""
        answer = self._send("GET", "/readyz")
        if answer.status_code not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
            raise parse_error(answer)
        return HealthView.model_validate_json(answer.content)

    def _wish(self, run_id: str, wish: str, *, body: BaseModel | None = None) -> RunView:
        answer = self._request("POST", f"/v1/runs/{run_id}:{wish}", body=body)
        return RunView.model_validate_json(answer.content)
