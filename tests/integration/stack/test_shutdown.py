"""The service process ends promptly while clients follow streams."""

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx

from service.stack.ports import choose_free_port
from tests.support.service.service_process import insert_running_run, start_service


def test_a_service_that_is_told_to_end_lets_go_of_those_who_listen(tmp_path: Path) -> None:
    port = choose_free_port()
    service = start_service(tmp_path, port)
    run_id = insert_running_run(tmp_path)
    ended = threading.Event()

    def listen() -> None:
        url = f"http://127.0.0.1:{port}/v1/runs/{run_id}/logs?follow=true"
        events = {"Accept": "text/event-stream"}
        # Cut off or at its end: either way the client comes back with its last id.
        with (
            suppress(httpx.TransportError),
            httpx.stream("GET", url, headers=events, timeout=30) as stream,
        ):
            for _ in stream.iter_raw():
                pass
        ended.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    time.sleep(1.0)
    start_s = time.monotonic()

    service.send_signal(signal.SIGTERM)
    code = service.wait(timeout=20)

    assert time.monotonic() - start_s < 8.0
    assert ended.wait(5)
    assert code in (0, -signal.SIGTERM)
