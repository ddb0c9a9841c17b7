"""A service's list of one sweep, on a real socket: trials "train" by scripted curves."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from configs.protocol.names import Metric
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

Curve = Callable[[Values], Sequence[float]]
"""A trial's mAP after each of its epochs."""


class Answer(NamedTuple):
    status: int
    body: str = ""


@dataclass
class FakeSweep:
    """Takes entries as the service does; every look at the standings is an epoch for everybody."""

    spec: SweepSpec
    curve: Curve
    id: str = "s" + "0" * 12
    concurrency: int = 2
    entries: list[SweepEntry] = field(default_factory=list)
    script: list[Answer] = field(default_factory=list)
    """What the next requests are answered instead."""

    results: dict[int, TrialResult] = field(default_factory=dict)
    """Of trials that end before their first evaluation, by number."""

    allows_new_trials: bool = True
    looks: int = 0
    url: str = ""
    _epochs: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        with self._lock:
            if self.script:
                return self.script.pop(0)
            if path == f"/v1/sweeps/{self.id}/standings":
                return self._standings()
            if path != f"/v1/sweeps/{self.id}/log":
                return Answer(404, json.dumps({"code": "not_found", "detail": "No such sweep."}))
            return self._log() if method == "GET" else self._append(body)

    def suggested(self) -> list[Values]:
        return [one.values for one in self.entries if isinstance(one, TrialSuggested)]

    def judged(self) -> list[TrialJudged]:
        return [one for one in self.entries if isinstance(one, TrialJudged)]

    def ended(self) -> dict[int, TrialEnded]:
        return {one.number: one for one in self.entries if isinstance(one, TrialEnded)}

    def _log(self) -> Answer:
        told = SweepLog(
            spec=self.spec,
            entries=tuple(self.entries),
            allows_new_trials=self.allows_new_trials,
            concurrency=self.concurrency,
        )
        return Answer(200, told.model_dump_json())

    def _append(self, body: bytes) -> Answer:
        asked = SweepLogAppend.model_validate_json(body)
        there = self.entries[asked.first : asked.first + len(asked.entries)]
        if there and there != list(asked.entries):
            return Answer(409, json.dumps({"code": "list_moved_on", "detail": "Too late."}))
        if not there:
            self.entries += asked.entries
        receipt = AppendReceipt(next=len(self.entries), allows_new_trials=self.allows_new_trials)
        return Answer(200, receipt.model_dump_json())

    def _standings(self) -> Answer:
        self.looks += 1
        ended = self.ended()
        going_on = [
            one
            for one in self.entries
            if isinstance(one, TrialSuggested) and one.number not in ended
        ]
        told = SearchProgress(
            trials=tuple(self._standing(one) for one in going_on),
            allows_new_trials=self.allows_new_trials,
        )
        return Answer(200, told.model_dump_json())

    def _standing(self, trial: TrialSuggested) -> TrialProgress:
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
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(b"")

        def do_POST(self) -> None:
            self._reply(self.rfile.read(int(self.headers["content-length"])))

        def _reply(self, body: bytes) -> None:
            status, text = sweep.answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sweep.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield sweep
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
