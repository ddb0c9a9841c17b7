"""Traces are exported to the configured collector."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.service.stage import open_stage


def test_traces_go_where_they_are_asked_to(tmp_path: Path) -> None:
    with run_collector() as (port, bodies):
        endpoint = f"http://127.0.0.1:{port}"
        with open_stage(tmp_path, otel_endpoint=endpoint) as stage:
            stage.http.get("/v1/runs")

    assert bodies
    assert b"/v1/runs" in b"".join(bodies)


@contextmanager
def run_collector() -> Iterator[tuple[int, list[bytes]]]:
    """Accept traces like a collector."""
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1], bodies
        server.shutdown()
        thread.join()
