"""An in-process service that the command line and the client of a document reach."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import httpx
import pytest

import service.client
import service.client_reads
import service.context
import tandem
from configs.teacher_catalog import known_teachers
from service.cli import comparisons
from service.cli.progress import runs as run_progress
from service.cli.progress import sweeps as sweep_progress
from service.client import TandemClient
from service.settings import Settings
from service.usecases.context import Context
from tests.support.documents.workers import MOST_STEPS, SimulatedWorkers
from tests.support.factories import make_manifest, write_dataset
from tests.support.service.stage import Stage, open_stage

_DIGITS = tuple("0123456789")


class LocalService:
    """The service of one machine: it starts with the first request, and again after `stop`."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._steps_left = 0
        self._stack = ExitStack()
        self._stage: Stage | None = None
        self._workers: SimulatedWorkers | None = None
        self._delivered: dict[str, int] = {}
        self._stopped_at: datetime | None = None
        client = _client_of(self)
        for package in (service.client, tandem):
            patch.setattr(package, "TandemClient", client)
        patch.setattr(service.client_reads, "RunReader", client)
        patch.setattr(service.context, "open_context", self._open_context)
        for module in (comparisons, run_progress, sweep_progress):
            patch.setattr(module, "_POLL_INTERVAL_S", 0.0)

    @property
    def stage(self) -> Stage:
        """The running service, with the dataset and the teacher of the digits presets."""
        if self._stage is None:
            is_new = not (self.home / "tandem.db").exists()
            self._stage = self._stack.enter_context(open_stage(self.home))
            if self._stopped_at is not None:
                gap = self._stopped_at - self._stage.clock.now()
                self._stage.clock.advance(gap.total_seconds())
            if is_new:
                self.register_digits("digits")
                detector = known_teachers()["digits-teacher"].detector
                self._stage.add_teacher("digits-teacher", classes=_DIGITS, detector=detector)
        return self._stage

    @property
    def workers(self) -> SimulatedWorkers:
        """The workers of the running service."""
        if self._workers is None:
            self._workers = SimulatedWorkers(self.stage, self._delivered)
        return self._workers

    def finish_runs(self, *, is_on: bool) -> None:
        """Whether each request of a client finishes what the cluster has started.

        Whoever waits for a run then sees it end; a client that would wait for ever raises
        `AssertionError`.
        """
        self._steps_left = MOST_STEPS if is_on else 0

    def stop(self) -> None:
        """Stop the service; its database and files stay."""
        if self._stage is not None:
            self._stopped_at = self._stage.clock.now()
        self._stack.close()
        self._stage = self._workers = None

    def register_digits(self, name: str) -> None:
        """Register a dataset of digits that has classes and no images."""
        root = self.home / "datasets" / name
        write_dataset(root, make_manifest(name=name, classes=_DIGITS))
        assert self.stage.http.post("/v1/datasets", json={"root": str(root)}).is_success

    def send(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; the workers finish their runs first if they are to."""
        stage = self.stage
        if self._steps_left:
            self._steps_left -= 1
            assert self._steps_left, f"unfinished: {self.workers.describe_unfinished()}"
            self.workers.finish_step()
        return stage.transport.handle_request(request)

    @contextmanager
    def _open_context(self, _settings: Settings) -> Iterator[Context]:
        yield self.stage.ctx


class _LocalTransport(httpx.BaseTransport):
    def __init__(self, send: Callable[[httpx.Request], httpx.Response]) -> None:
        self._send = send

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._send(request)


def _client_of(local: LocalService) -> type[TandemClient]:
    """A client class whose instances reach the service whatever their URL is."""

    class LocalClient(TandemClient):
        def __init__(self, url: str, *, token: str | None = None) -> None:
            super().__init__(url, token=token, transport=_LocalTransport(local.send))

    return LocalClient
