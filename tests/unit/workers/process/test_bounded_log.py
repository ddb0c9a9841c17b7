"""A worker's log file takes a bounded space, and no byte of its beginning or end moves."""

import logging
from pathlib import Path

import pytest

from configs.protocol.log_limits import LogLimits
from workers.process import bounded_log
from workers.process.bounded_log import BoundedFileHandler

KIB = 1024
LIMITS = LogLimits(head_bytes=64 * KIB, tail_bytes=64 * KIB)
LINE = "x" * 1000


def test_the_middle_of_a_long_log_takes_no_space(tmp_path: Path) -> None:
    file = tmp_path / "attempt-1.log"
    write_lines(file, 1000)

    status = file.stat()
    content = file.read_bytes()

    assert status.st_size == sum(len(f"{number} {LINE}\n") for number in range(1000))
    assert status.st_blocks * 512 < 300 * KIB
    assert content.startswith(b"0 x")
    assert content.endswith(f"999 {LINE}\n".encode())
    assert b"\x00" not in content[: LIMITS.head_bytes]
    assert b"\x00" not in content[-LIMITS.tail_bytes :]
    assert b"bytes of this log were left out here]\n" in content


def test_a_short_log_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "attempt-1.log"
    write_lines(file, 120)

    assert file.read_text() == "".join(f"{number} {LINE}\n" for number in range(120))


def test_where_no_space_can_be_freed_only_warnings_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(bounded_log, "_fallocate", refuse)
    file = tmp_path / "attempt-1.log"
    write_lines(file, 1000, last=logging.WARNING)

    lines = file.read_text().splitlines()

    assert file.stat().st_size < 300 * KIB
    assert "only warnings and errors" in lines[-2]
    assert lines[-1].startswith("999 ")


def write_lines(file: Path, number: int, *, last: int = logging.INFO) -> None:
    handler = BoundedFileHandler(file, limits=LIMITS)
    for index in range(number):
        level = last if index == number - 1 else logging.INFO
        record = logging.LogRecord("test", level, "", 0, f"{index} {LINE}", (), None)
        handler.handle(record)
    handler.close()
