"""A fake service with the log of one sweep on a real socket; trials follow scripted curves."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from configs.metric_keys import Metric
from configs.protocol.sweep_log import (
    AppendReceipt,
    SearchProgress,
    SweepEntry,
    SweepLog,
    SweepLogAppend,
    TrialEnded,
    TrialEvaluation,
    TrialJudged,
    TrialProgress,
    TrialResult,
    TrialSuggested,
)
from configs.spec.sweep import SweepSpec, Values
from tests.support.workers.fake_service import Response

Curve = Callable[[Values], Sequence[float]]
"""A trial's mAP after each of its epochs."""


@dataclass
class FakeSweep:
    """Accepts entries as the service does; every progress request adds an epoch to each trial."""

    spec: SweepSpec
    curve: Curve
    id: str = "s" + "0" * 12
    concurrency: int = 2
    entries: list[SweepEntry] = field(default_factory=list)
    scripted_responses: list[Response] = field(default_factory=list)
    """Responses to the next requests, before the fake answers by itself again."""

    results: dict[int, TrialResult] = field(default_factory=dict)
    """Results of trials that end before their first evaluation, by number."""

    allows_new_trials: bool = True
    polls: int = 0
    url: str = ""
    _epochs: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, method: str, path: str, body: bytes) -> Response:
        with self._lock:
            if self.scripted_responses:
                return self.scripted_responses.pop(0)
            if path == f"/v1/sweeps/{self.id}/standings":
                return self._progress()
            if path != f"/v1/sweeps/{self.id}/log":
                return Response(404, json.dumps({"code": "not_found", "detail": "No such sweep."}))
            return self._log() if method == "GET" else self._append(body)

    def suggested(self) -> list[Values]:
        return [entry.values for entry in self.entries if isinstance(entry, TrialSuggested)]

    def judged(self) -> list[TrialJudged]:
        return [entry for entry in self.entries if isinstance(entry, TrialJudged)]

    def ended(self) -> dict[int, TrialEnded]:
        return {entry.number: entry for entry in self.entries if isinstance(entry, TrialEnded)}

    def _log(self) -> Response:
        payload = SweepLog(
            spec=self.spec,
            entries=tuple(self.entries),
            allows_new_trials=self.allows_new_trials,
            concurrency=self.concurrency,
        )
        return Response(200, payload.model_dump_json())

    def _append(self, body: bytes) -> Response:
        request = SweepLogAppend.model_validate_json(body)
        existing = self.entries[request.first : request.first + len(request.entries)]
        if existing and existing != list(request.entries):
            return Response(409, json.dumps({"code": "list_moved_on", "detail": "Too late."}))
        if not existing:
            self.entries += request.entries
        receipt = AppendReceipt(next=len(self.entries), allows_new_trials=self.allows_new_trials)
        return Response(200, receipt.model_dump_json())

    def _progress(self) -> Response:
        self.polls += 1
        ended = self.ended()
        running = [
            entry
            for entry in self.entries
            if isinstance(entry, TrialSuggested) and entry.number not in ended
        ]
        payload = SearchProgress(
            trials=tuple(self._trial_progress(entry) for entry in running),
            allows_new_trials=self.allows_new_trials,
        )
        return Response(200, payload.model_dump_json())

    def _trial_progress(self, trial: TrialSuggested) -> TrialProgress:
        curve = self.curve(trial.values)
        epoch = self._epochs.get(trial.number, 0) + 1
        self._epochs[trial.number] = epoch
        result: TrialResult | None = "finished" if epoch > len(curve) else None
        if trial.number in self.results:
            curve, result = (), self.results[trial.number] if epoch > 1 else None
        evaluations = tuple(
            TrialEvaluation(epoch=number, values={Metric.MAP: value})
            for number, value in enumerate(curve[:epoch], start=1)
        )
        return TrialProgress(number=trial.number, evaluations=evaluations, result=result)


@contextmanager
def serve(sweep: FakeSweep) -> Iterator[FakeSweep]:
    class SweepHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(b"")

        def do_POST(self) -> None:
            self._reply(self.rfile.read(int(self.headers["content-length"])))

        def _reply(self, body: bytes) -> None:
            status, text = sweep.respond(self.command, self.path, body)
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Keep requests out of the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), SweepHandler)
    sweep.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield sweep
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
