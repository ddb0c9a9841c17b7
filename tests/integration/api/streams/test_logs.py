"""Logs over the API: sent in chunks, searched, followed from any position, without duplicates."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.protocol.names import LOG_CHUNK_BYTES
from service.adapters.log_store import LocalLogStore
from service.client import TandemClient
from service.domain.ports import LogPart
from service.domain.states import RunState
from service.stack.ports import choose_free_port
from service.store.database import Database
from service.usecases.runs.logs import LogPosition, follow_logs
from tests.support.service.runs import submit_run
from tests.support.service.service_process import insert_running_run, start_service
from tests.support.service.stage import Stage

TEXT = "erste Zeile\nder Verlust fällt ☺\nLoss is FALLING\n"


class TestChunks:
    """A worker sends its log in chunks."""

    def test_a_log_does_not_need_the_folder_of_its_run(self, stage: Stage) -> None:
        run_id = submit_run(stage)

        receipts = [send_chunk(stage, run_id, TEXT.encode()[at : at + 10], at) for at in (0, 10)]

        assert [receipt["next"] for receipt in receipts] == [10, 20]
        assert stage.http.get(f"/v1/runs/{run_id}/logs").content == TEXT.encode()[:20]

    def test_a_repeated_chunk_counts_once_and_a_gap_is_requested(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        send_chunk(stage, run_id, b"0123456789", 0)

        overlapping, gap = (
            send_chunk(stage, run_id, b"6789ab", 6),
            send_chunk(stage, run_id, b"z", 99),
        )

        assert (overlapping["next"], gap["next"]) == (12, 12)
        assert stage.http.get(f"/v1/runs/{run_id}/logs").text == "0123456789ab"

    def test_a_too_large_chunk_is_refused(self, stage: Stage) -> None:
        run_id = submit_run(stage)

        response = stage.http.post(
            f"/v1/runs/{run_id}/attempts/1/log", content=b"x" * (LOG_CHUNK_BYTES + 1)
        )

        assert response.status_code == 413
        assert response.json()["code"] == "log_chunk_too_large"

    @pytest.mark.parametrize("path", ["nobody/attempts/1/log", "..%2f..%2fx/attempts/1/log"])
    def test_a_chunk_of_an_unknown_run_is_refused(self, stage: Stage, path: str) -> None:
        assert stage.http.post(f"/v1/runs/{path}", content=b"x").status_code == 404

    def test_a_chunk_of_an_attempt_that_does_not_exist_is_refused(self, stage: Stage) -> None:
        run_id = submit_run(stage)

        response = stage.http.post(f"/v1/runs/{run_id}/attempts/2/log", content=b"x")

        assert (response.status_code, response.json()["code"]) == (404, "attempt_not_found")
        assert stage.ctx.logs.size_bytes(run_id, 2) == 0

    def test_the_last_lines_of_a_killed_process_are_read_from_its_folder(
        self, stage: Stage
    ) -> None:
        run_id = submit_run(stage)
        send_chunk(stage, run_id, b"early\n", 0)
        write_log(stage, run_id, "early\nlate\n")

        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
        stage.run_loops()
        (stage.home / "runs" / run_id / "logs" / "attempt-1.log").unlink()

        assert stage.http.get(f"/v1/runs/{run_id}/logs?attempt=1").text == "early\nlate\n"

    def test_the_log_of_ray_is_used_if_there_is_no_other(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        stage.cluster.logs_by_job[f"{run_id}-a1"] = "cannot execute\n"

        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=127)
        stage.run_loops()
        stage.cluster.forget_jobs()

        assert stage.http.get(f"/v1/runs/{run_id}/logs").text == "cannot execute\n"

    @given(
        content=st.binary(max_size=200),
        cuts=st.lists(st.tuples(st.integers(0, 220), st.integers(0, 80)), max_size=20),
    )
    def test_whatever_chunks_arrive_the_log_has_no_gap(
        self, tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[tuple[int, int]]
    ) -> None:
        store = LocalLogStore(tmp_path_factory.mktemp("logs"))
        for offset, length in cuts:
            store.append("r1", 1, offset=offset, content=content[offset : offset + length])

        end = store.size_bytes("r1", 1)

        assert store.read("r1", 1, offset=0, limit=1000).content == content[:end]
        part = store.read("r1", 1, offset=end // 2, limit=7)
        assert part == LogPart(end // 2, content[end // 2 : end][:7])

    def test_a_long_log_is_several_files(self, tmp_path: Path) -> None:
        store, chunk = LocalLogStore(tmp_path), b"x" * LOG_CHUNK_BYTES
        for number in range(9):
            store.append("r1", 1, offset=number * len(chunk), content=chunk)

        assert len(list(tmp_path.rglob("*.log"))) == 3
        assert len(store.read("r1", 1, offset=0, limit=10**9).content) == 9 * len(chunk)


class TestQueries:
    """Queries for parts of a log."""

    def test_the_last_lines_are_those_of_the_last_attempts(self, stage: Stage) -> None:
        run_id = run_two_attempts(stage)

        assert read_log(stage, run_id, tail=2) == "a2 first\na2 second\n"
        assert read_log(stage, run_id, tail=3) == "a1 second\na2 first\na2 second\n"
        assert read_log(stage, run_id, tail=1, attempt=1) == "a1 second\n"

    def test_lines_are_found_whatever_their_case(self, stage: Stage) -> None:
        run_id = run_two_attempts(stage)

        assert read_log(stage, run_id, search="SECOND") == "1:2: a1 second\n2:2: a2 second\n"
        assert read_log(stage, run_id, search="nowhere") == ""

    def test_a_log_from_an_offset(self, stage: Stage) -> None:
        run_id = run_two_attempts(stage)

        assert read_log(stage, run_id, attempt=2, offset=3) == "first\na2 second\n"

    @pytest.mark.parametrize(
        "query",
        ["tail=0", "tail=2&search=x", "follow=1&tail=2", "offset=4", "attempt=0", "unknown=1"],
    )
    def test_a_query_that_makes_no_sense_is_refused(self, stage: Stage, query: str) -> None:
        run_id = submit_run(stage)

        assert stage.http.get(f"/v1/runs/{run_id}/logs?{query}").status_code == 422


class TestFollowing:
    """Following a log as it grows."""

    def test_no_character_is_cut(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        following = follow_logs(run_id, ctx=stage.ctx)
        texts = []
        for at, byte in enumerate(TEXT.encode()):
            send_chunk(stage, run_id, bytes([byte]), at)
            while (chunk := next(following)) is not None:
                texts.append(chunk.text)

        assert "".join(texts) == TEXT
        assert "\ufffd" not in "".join(texts)

    def test_a_client_that_reconnects_continues_at_its_position(self, stage: Stage) -> None:
        run_id = run_two_attempts(stage)
        finish_attempt(stage, run_id, attempt=2)

        text = "".join(chunk.text for chunk in follow_logs(run_id, ctx=stage.ctx) if chunk)
        for position in (
            LogPosition(1, 4),
            LogPosition(1, 19),
            LogPosition(2, 0),
            LogPosition(2, 5),
        ):
            remaining = [
                chunk for chunk in follow_logs(run_id, since=position, ctx=stage.ctx) if chunk
            ]
            assert text.endswith("".join(chunk.text for chunk in remaining))
            assert remaining[-1].end == LogPosition(2, len("a2 first\na2 second\n"))

    def test_as_events_each_chunk_has_its_position_and_there_is_an_end(self, stage: Stage) -> None:
        run_id = run_two_attempts(stage)
        finish_attempt(stage, run_id, attempt=2)

        headers = {"Accept": "text/event-stream", "Last-Event-ID": "1:9"}
        text = stage.http.get(f"/v1/runs/{run_id}/logs?follow=true", headers=headers).text

        assert "data: a1 second" in text
        assert "a1 first" not in text
        assert "id: 2:19" in text
        assert "event: end" in text

    @pytest.mark.slow  # two starts of a service; positions of clients are tested above
    def test_a_killed_service_loses_and_duplicates_nothing(self, tmp_path: Path) -> None:
        port = choose_free_port()
        lines = [f"step {number}\n" for number in range(400)]
        service = start_service(tmp_path, port)
        received: list[str] = []
        run_id = insert_running_run(tmp_path)
        with TandemClient(f"http://127.0.0.1:{port}") as client:
            follower = threading.Thread(
                target=lambda: received.extend(client.follow_logs(run_id)), daemon=True
            )
            log = tmp_path / "runs" / run_id / "logs" / "attempt-1.log"
            log.parent.mkdir(parents=True)
            follower.start()
            with log.open("a", encoding="utf-8") as file:
                for number, line in enumerate(lines):
                    file.write(line)
                    file.flush()
                    time.sleep(0.005)
                    if number in (150, 300):
                        service.kill()
                        service.wait()
                        service = start_service(tmp_path, port)
            finish_run(tmp_path, run_id)
            follower.join(timeout=30)
        service.terminate()
        service.wait()

        assert not follower.is_alive()
        assert "".join(received) == "".join(lines)


def finish_run(home: Path, run_id: str) -> None:
    database = Database(f"sqlite:///{home / 'tandem.db'}")
    with database.transaction() as uow:
        uow.runs.save(replace(uow.runs.get_for_update(run_id), state=RunState.SUCCEEDED))
    database.close()


def send_chunk(stage: Stage, run_id: str, content: bytes, offset: int) -> dict[str, int]:
    url = f"/v1/runs/{run_id}/attempts/1/log"
    response = stage.http.post(url, params={"offset": offset}, content=content)
    assert response.status_code == 200, response.text
    return dict(response.json())


def write_log(stage: Stage, run_id: str, text: str, *, attempt: int = 1) -> None:
    log = stage.home / "runs" / run_id / "logs" / f"attempt-{attempt}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text, encoding="utf-8")


def run_two_attempts(stage: Stage) -> str:
    run_id = submit_run(stage)
    write_log(stage, run_id, "a1 first\na1 second\n")
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
    stage.run_loops()
    stage.run_loops()
    write_log(stage, run_id, "a2 first\na2 second\n", attempt=2)
    return run_id


def finish_attempt(stage: Stage, run_id: str, *, attempt: int) -> None:
    stage.cluster.set_job_state(f"{run_id}-a{attempt}", "succeeded", exit_code=0)
    stage.run_loops()
    assert stage.run(run_id)["state"] == "succeeded"


def read_log(stage: Stage, run_id: str, **query: int | str) -> str:
    response = stage.http.get(f"/v1/runs/{run_id}/logs", params=query)
    assert response.status_code == 200, response.text
    return response.text
