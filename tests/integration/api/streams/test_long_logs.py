"""Logs of any length: bounded on the disk, and read, searched and followed in bounded memory."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from configs.protocol.log_limits import LogLimits
from configs.protocol.names import attempt_log_path
from service.adapters.log_store import LocalLogStore
from service.domain.ports import LogPart
from service.usecases.context import Context
from service.usecases.runs import logs
from tests.support.service.runs import submit_run
from tests.support.service.stage import Stage

LIMITS = LogLimits(head_bytes=100, tail_bytes=50)
LINE = b"123456789\n"
MIB = 2**20


@pytest.fixture
def bounded(stage: Stage) -> Context:
    """The context of a service with small limits of logs, in the same folder."""
    store = LocalLogStore(stage.home / "logs-of-runs", limits=LIMITS)
    stage.app.state.ctx = replace(stage.ctx, logs=store)
    return stage.ctx


class TestStoredLogs:
    """The service keeps the beginning and the end of what workers upload."""

    def test_the_middle_is_deleted_and_a_line_says_how_much(
        self, stage: Stage, bounded: Context
    ) -> None:
        run_id = submit_run(stage)
        for number in range(100):
            content = f"{number:9d}\n".encode()
            assert upload(bounded, run_id, content, offset=10 * number) == 10 * number + 10

        lines = stage.http.get(f"/v1/runs/{run_id}/logs").text.splitlines()
        size = sum(file.stat().st_size for file in (stage.home / "logs-of-runs").rglob("*.log"))

        assert [int(line) for line in lines[:10]] == list(range(10))
        gap = next(line for line in lines if "left out" in line)
        num_omitted = int(gap.split()[0].removeprefix("[")) // 10
        remaining = [int(line) for line in lines if line.strip().isdigit()]
        assert len(remaining) + num_omitted == 100
        assert remaining[-5:] == [95, 96, 97, 98, 99]
        assert size <= LIMITS.head_bytes + 2 * LIMITS.tail_bytes + len(LINE)

    def test_a_follower_continues_behind_what_is_left_out(
        self, stage: Stage, bounded: Context
    ) -> None:
        run_id = submit_run(stage)
        following = logs.follow_logs(run_id, ctx=bounded)
        upload(bounded, run_id, LINE * 10, offset=0)
        first = next(following)
        for number in range(10, 100):
            upload(bounded, run_id, LINE, offset=10 * number)

        second = next(following)

        assert first is not None
        assert second is not None
        assert "left out" in second.text
        assert second.end.offset == 1000

    def test_what_a_worker_skips_is_left_out_once_the_beginning_is_there(
        self, stage: Stage, bounded: Context
    ) -> None:
        run_id = submit_run(stage)

        too_early = upload(bounded, run_id, LINE, offset=500, after_gap=True)
        upload(bounded, run_id, LINE * 10, offset=0)
        skipped = upload(bounded, run_id, LINE, offset=500, after_gap=True)

        assert (too_early, skipped) == (0, 510)
        assert bounded.logs.read(run_id, 1, offset=200, limit=99) == LogPart(500, LINE)
        assert "[400 bytes of this log" in stage.http.get(f"/v1/runs/{run_id}/logs").text

    def test_the_rest_of_a_killed_process_is_stored_without_its_middle(
        self, stage: Stage, bounded: Context
    ) -> None:
        run_id = submit_run(stage)
        file = stage.home / "runs" / run_id / attempt_log_path(1)
        file.parent.mkdir(parents=True)
        file.write_bytes(LINE * 200_000)

        logs.store_remaining_log(run_id, 1, ctx=bounded)
        file.unlink()

        assert bounded.logs.size_bytes(run_id, 1) == 2_000_000
        assert len(stage.http.get(f"/v1/runs/{run_id}/logs").content) < 300_000


class TestMemory:
    """An answer holds a part of a log, however long the log is."""

    @pytest.fixture
    def long_run(self, stage: Stage) -> str:
        """A run with a log of 24 MiB in lines of 1 KiB."""
        run_id = submit_run(stage)
        file = stage.home / "runs" / run_id / attempt_log_path(1)
        file.parent.mkdir(parents=True)
        file.write_bytes((b"x" * 1023 + b"\n") * (24 * 1024))
        return run_id

    def test_reading_a_log(self, stage: Stage, long_run: str) -> None:
        length, peak = measure(logs.iter_log(long_run, ctx=stage.ctx))

        assert length == 24 * MIB
        assert peak < 3 * MIB

    def test_searching_a_log(self, stage: Stage, long_run: str) -> None:
        length, peak = measure(logs.search_log(long_run, "xx", ctx=stage.ctx))

        assert length > 24 * MIB
        assert peak < 3 * MIB

    def test_the_last_lines_of_a_log(self, stage: Stage, long_run: str) -> None:
        texts = (logs.read_last_lines(long_run, 10_000, ctx=stage.ctx) for _ in range(1))
        length, peak = measure(texts)

        assert length == MIB
        assert peak < 8 * MIB

    def test_storing_the_rest_of_a_log(self, stage: Stage, long_run: str) -> None:
        def store() -> Iterator[str]:
            logs.store_remaining_log(long_run, 1, ctx=stage.ctx)
            yield ""

        _, peak = measure(store())

        assert stage.ctx.logs.size_bytes(long_run, 1) == 24 * MIB
        assert peak < 3 * MIB

    def test_a_line_without_an_end_is_searched_in_pieces(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        file = stage.home / "runs" / run_id / attempt_log_path(1)
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * (8 * MIB) + b"needle")

        matches = list(logs.search_log(run_id, "needle", ctx=stage.ctx))

        assert len(matches) == 1
        assert matches[0].startswith("1:1: ")
        assert len(matches[0]) < MIB


def test_an_offset_beyond_all_logs_is_refused(stage: Stage) -> None:
    run_id = submit_run(stage)

    response = stage.http.get(f"/v1/runs/{run_id}/logs?attempt=1&offset={10**22}")

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "offset"


def upload(
    ctx: Context, run_id: str, content: bytes, *, offset: int, after_gap: bool = False
) -> int:
    return logs.append_log_chunk(
        run_id, 1, offset=offset, content=content, after_gap=after_gap, ctx=ctx
    )


def measure(texts: Iterator[str]) -> tuple[int, int]:
    """The length of all texts together, and the peak of the memory that they took, in bytes."""
    tracemalloc.start()
    try:
        length = sum(len(text) for text in texts)
        return length, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
