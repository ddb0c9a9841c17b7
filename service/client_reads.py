"""The part of the client that lists and shows runs; it imports no specs."""

from collections.abc import Iterator

from pydantic import JsonValue, TypeAdapter

from service.api.schemas.run_details import EventView, LogQuery, NoiseView, RunDetails
from service.api.schemas.run_lists import RunPage, RunQuery
from service.api.schemas.run_pages import EventPage
from service.client_transport import ApiTransport


class RunReader(ApiTransport):
    """Endpoints that read runs, without their specs."""

    def runs(self, query: RunQuery | None = None) -> RunPage:
        """List runs, page by page, the newest first."""
        params = (query or RunQuery()).model_dump(mode="json", exclude_none=True)
        return RunPage.model_validate_json(self._request("GET", "/v1/runs", params=params).content)

    def run_details(self, run_id: str) -> RunDetails:
        """Get a run by its id, without its spec."""
        content = self._request("GET", f"/v1/runs/{run_id}").content
        return RunDetails.model_validate_json(content, extra="ignore")

    def run_document(self, run_id: str) -> dict[str, JsonValue]:
        """Get a run by its id, as the JSON of the answer."""
        content = self._request("GET", f"/v1/runs/{run_id}").content
        return TypeAdapter(dict[str, JsonValue]).validate_json(content)

    def has_sweep(self, id_prefix: str) -> bool:
        """Whether the id of a sweep starts with `id_prefix`."""
        response = self._request("GET", "/v1/sweeps", params={"id_prefix": id_prefix, "limit": 1})
        return bool(response.json()["items"])

    def events(self, run_id: str) -> list[EventView]:
        """List the events of a run, the oldest first."""
        pages = self._iter_pages(EventPage, f"/v1/runs/{run_id}/events")
        return [event for page in pages for event in page.items]

    def noise(self, run_id: str) -> NoiseView:
        """Get the noise floor: the spread of runs that differ only in their seed."""
        return NoiseView.model_validate_json(
            self._request("GET", f"/v1/runs/{run_id}/noise").content
        )

    def logs(self, run_id: str, query: LogQuery | None = None) -> str:
        """Get the worker's log as text."""
        return "".join(self.iter_logs(run_id, query))

    def iter_logs(self, run_id: str, query: LogQuery | None = None) -> Iterator[str]:
        """Iterate over the parts of the worker's log without holding all of it in memory."""
        params = (query or LogQuery()).model_dump(mode="json", exclude_defaults=True)
        yield from self._stream_text(f"/v1/runs/{run_id}/logs", params=params)
