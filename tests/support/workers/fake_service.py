"""The service's endpoints for deliveries and logs on a real socket, with scripted responses."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl

from configs.protocol.records import Delivery, LogReceipt, PendingRecords, Receipt, Record, StopKind


class Response(NamedTuple):
    """The response to a request."""

    status: int
    body: str = ""


SUPERSEDED = Response(
    409, json.dumps({"code": "attempt_superseded", "detail": "Attempt 2 reports."})
)


@dataclass
class FakeService:
    """Returns its scripted responses first, and then accepts records as the service does."""

    script: list[Response] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    heartbeats: int = 0
    reported_pending: list[PendingRecords] = field(default_factory=list)
    """The numbers of pending records in each delivery."""

    stop: StopKind | None = None
    url: str = ""
    log: bytearray = field(default_factory=bytearray)
    chunk_sizes: list[int] = field(default_factory=list)
    token: str | None = None
    """The token that every request needs, or None if no token is needed."""

    def respond(self, path: str, body: bytes, authorization: str | None) -> Response:
        self.paths.append(path)
        if self.token is not None and authorization != f"Bearer {self.token}":
            return Response(
                401, json.dumps({"code": "not_authenticated", "detail": "Who are you?"})
            )
        if self.script:
            return self.script.pop(0)
        if "/log?" in path:
            query = dict(parse_qsl(path.partition("?")[2]))
            if "after_gap" in query:  # positions stay those of the whole log
                self.log += bytes(int(query["offset"]) - len(self.log))
            return self._accept_log(int(query["offset"]), body)
        return self._accept_records(body)

    def _accept_log(self, offset: int, chunk: bytes) -> Response:
        self.chunk_sizes.append(len(chunk))
        if offset <= len(self.log):
            self.log += chunk[len(self.log) - offset :]
        return Response(200, LogReceipt(next=len(self.log)).model_dump_json())

    def _accept_records(self, body: bytes) -> Response:
        delivery = Delivery.model_validate_json(body)
        self.reported_pending.append(delivery.pending_records)
        if not delivery.records:
            self.heartbeats += 1
        if delivery.first <= len(self.records):
            self.records += delivery.records[len(self.records) - delivery.first :]
        receipt = Receipt(next=len(self.records), stop=self.stop)
        return Response(200, receipt.model_dump_json())


@contextmanager
def serve(service: FakeService) -> Iterator[FakeService]:
    class ServiceHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, text = service.respond(self.path, body, self.headers["authorization"])
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Do not log requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), ServiceHandler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
