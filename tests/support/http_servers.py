"""HTTP servers of tests, each in a thread."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.certificates import LOCALHOST, write_certificate

_MLFLOW_ANSWER = b'{"experiment": {"experiment_id": "7", "tags": []}, "experiments": []}'
_SERVICE_ANSWER = b'{"items": [], "next_cursor": null}'


@dataclass(frozen=True)
class AnsweringServer:
    """A server that answers as MLflow and the service do, and as a proxy for them.

    Below `/missing` it has nothing.
    """

    url: str
    requested: list[str] = field(default_factory=list)
    """What was asked for: paths, of a proxy whole addresses."""

    authorizations: list[str] = field(default_factory=list)
    """The Authorization header of each request; empty where there is none."""


@contextmanager
def run_answering_server(*, certificate_in: Path | None = None) -> Iterator[AnsweringServer]:
    """Serve on the loopback address; over TLS with a new certificate `server.pem` in a folder."""
    server = ThreadingHTTPServer((LOCALHOST, 0), BaseHTTPRequestHandler)
    scheme = "http"
    if certificate_in is not None:
        scheme = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(write_certificate(certificate_in / "server.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    answering = AnsweringServer(f"{scheme}://{LOCALHOST}:{server.server_port}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answering.requested.append(self.path)
            answering.authorizations.append(self.headers.get("authorization", ""))
            is_missing = self.path.startswith("/missing")
            body = _SERVICE_ANSWER if "/v1/" in self.path else _MLFLOW_ANSWER
            self.send_response(404 if is_missing else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server.RequestHandlerClass = Handler
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    yield answering
    server.shutdown()
    server.server_close()
    thread.join()
