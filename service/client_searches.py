"""The part of the client that launches, shows and controls sweeps and autopilots."""

import httpx
from pydantic import BaseModel

from configs.spec.autopilot import AutopilotBudget
from service.api.schemas.autopilots import (
    AutopilotExtensionRequest,
    AutopilotLaunchRequest,
    AutopilotPage,
    AutopilotQuery,
    AutopilotView,
    DecisionPage,
    DecisionView,
)
from service.api.schemas.runs import RunView
from service.api.schemas.sweeps import (
    ExtendRequest,
    PromoteRequest,
    SweepPage,
    SweepPlanView,
    SweepQuery,
    SweepRequest,
    SweepView,
    TrialPage,
    TrialView,
)
from service.client_reads import RunReader


class SearchClient(RunReader):
    """Endpoints of sweeps and autopilots."""

    def launch_sweep(
        self, request: SweepRequest, *, idempotency_key: str | None = None
    ) -> SweepView:
        """Launch a sweep; idempotent by key."""
        response = self._launch("/v1/sweeps", body=request, key=idempotency_key)
        return SweepView.model_validate_json(response.content)

    def plan_sweep(self, request: SweepRequest) -> SweepPlanView:
        """Resolve and validate a sweep without launching it."""
        response = self._request("POST", "/v1/sweeps:plan", body=request)
        return SweepPlanView.model_validate_json(response.content)

    def sweeps(self, query: SweepQuery | None = None) -> SweepPage:
        """List sweeps, page by page, the newest first."""
        params = (query or SweepQuery()).model_dump(mode="json", exclude_none=True)
        return SweepPage.model_validate_json(
            self._request("GET", "/v1/sweeps", params=params).content
        )

    def sweep(self, sweep_id: str) -> SweepView:
        """Get a sweep by its id."""
        return SweepView.model_validate_json(self._request("GET", f"/v1/sweeps/{sweep_id}").content)

    def trials(self, sweep_id: str) -> list[TrialView]:
        """List the trials of a sweep."""
        pages = self._iter_pages(TrialPage, f"/v1/sweeps/{sweep_id}/trials")
        return [trial for page in pages for trial in page.items]

    def stop_sweep(self, sweep_id: str) -> SweepView:
        """Stop a sweep and its running trials."""
        response = self._request("POST", f"/v1/sweeps/{sweep_id}:stop")
        return SweepView.model_validate_json(response.content)

    def extend_sweep(self, sweep_id: str, request: ExtendRequest) -> SweepView:
        """Continue a finished sweep with more trials."""
        response = self._request("POST", f"/v1/sweeps/{sweep_id}:extend", body=request)
        return SweepView.model_validate_json(response.content)

    def promote(
        self, sweep_id: str, request: PromoteRequest, *, idempotency_key: str | None = None
    ) -> RunView:
        """Launch the best trial of a sweep, or another one, as a separate run."""
        response = self._launch(f"/v1/sweeps/{sweep_id}:promote", body=request, key=idempotency_key)
        return RunView.model_validate_json(response.content)

    def launch_autopilot(
        self, request: AutopilotLaunchRequest, *, idempotency_key: str | None = None
    ) -> AutopilotView:
        """Launch an autopilot; idempotent by key."""
        response = self._launch("/v1/autopilots", body=request, key=idempotency_key)
        return AutopilotView.model_validate_json(response.content)

    def autopilots(self, query: AutopilotQuery | None = None) -> AutopilotPage:
        """List autopilots, page by page, the newest first."""
        params = (query or AutopilotQuery()).model_dump(mode="json", exclude_none=True)
        return AutopilotPage.model_validate_json(
            self._request("GET", "/v1/autopilots", params=params).content
        )

    def autopilot(self, autopilot_id: str) -> AutopilotView:
        """Get an autopilot with its plan, its spending and its conclusion."""
        response = self._request("GET", f"/v1/autopilots/{autopilot_id}")
        return AutopilotView.model_validate_json(response.content)

    def decisions(self, autopilot_id: str, *, after: int = -1) -> list[DecisionView]:
        """List the decisions of an autopilot behind position `after`, with their runs."""
        path = f"/v1/autopilots/{autopilot_id}/decisions"
        pages = self._iter_pages(DecisionPage, path, {"cursor": after})
        return [decision for page in pages for decision in page.items]

    def pause_autopilot(self, autopilot_id: str) -> AutopilotView:
        """Pause an autopilot with its runs and the hours of its budget."""
        return self._autopilot_action(autopilot_id, "pause")

    def resume_autopilot(self, autopilot_id: str) -> AutopilotView:
        """Continue a paused autopilot, or begin what its plan shows."""
        return self._autopilot_action(autopilot_id, "resume")

    def stop_autopilot(self, autopilot_id: str) -> AutopilotView:
        """Stop an autopilot; it concludes from the runs that are over."""
        return self._autopilot_action(autopilot_id, "stop")

    def extend_autopilot(self, autopilot_id: str, budget: AutopilotBudget) -> AutopilotView:
        """Grant an autopilot more budget, in the unit of its first one."""
        body = AutopilotExtensionRequest(budget=budget)
        return self._autopilot_action(autopilot_id, "extend", body=body)

    def _autopilot_action(
        self, autopilot_id: str, action: str, *, body: BaseModel | None = None
    ) -> AutopilotView:
        response = self._request("POST", f"/v1/autopilots/{autopilot_id}:{action}", body=body)
        return AutopilotView.model_validate_json(response.content)

    def _launch(self, path: str, *, body: BaseModel, key: str | None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._request("POST", path, body=body, headers=headers)
