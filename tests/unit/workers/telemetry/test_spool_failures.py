"""The spool with torn lines, full disks, other processes, many threads and replays."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from configs.protocol.records import Metrics, Record
from tests.support.workers.file_limits import limit_file_size
from tests.support.workers.records import (
    NOON,
    append_torn_line,
    make_metrics,
    make_outcome,
    make_progress,
)
from workers.telemetry.spool import Spool, SpoolUnreadable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "spool.jsonl"


def test_a_record_can_be_read_at_once(path: Path) -> None:
    spool = Spool(path)

    for step in range(5):
        spool.append(make_metrics(step))

        assert spool.read(step, limit=10) == [make_metrics(step)]
    spool.close()


def test_a_spool_that_is_nothing_but_a_torn_line_begins_anew(path: Path) -> None:
    path.parent.mkdir()
    append_torn_line(path)

    write(path, make_metrics(1))

    assert read(path) == [make_metrics(1)]


def test_a_line_that_is_no_record_is_named(path: Path) -> None:
    write(path, make_metrics(1))
    with path.open("a") as file:
        file.write("not a record\n")

    with pytest.raises(SpoolUnreadable, match=r"Line 2 of .*spool.jsonl is not a record"):
        Spool(path)


def test_a_replayed_point_is_not_reported_again(path: Path) -> None:
    write(path, make_metrics(10), make_metrics(20))
    spool = Spool(path)
    later = NOON.replace(hour=18)

    reported = [
        spool.append_unreported(make_metrics(step, at=later, attempt=2)) for step in (10, 20, 30)
    ]
    spool.close()

    assert reported == [False, False, True]
    assert read(path) == [make_metrics(10), make_metrics(20), make_metrics(30, at=later, attempt=2)]


def test_keys_are_judged_one_by_one(path: Path) -> None:
    write(path, make_metrics(10, loss=1.0, lr=0.1), make_metrics(20, loss=0.5))
    spool = Spool(path)

    spool.append_unreported(make_metrics(20, loss=9.0, lr=0.2, mAP=0.3))
    spool.close()

    assert list_values(read(path)[-1]) == {"lr": 0.2, "mAP": 0.3}


def test_a_point_of_this_process_is_not_reported_again_either(path: Path) -> None:
    spool = Spool(path)

    assert spool.append_unreported(make_metrics(10))
    assert not spool.append_unreported(make_metrics(10))
    spool.close()


def test_threads_do_not_tear_each_others_lines(path: Path) -> None:
    spool = Spool(path)

    def append_all() -> None:
        for step in range(200):
            spool.append(make_progress(step))

    threads = [threading.Thread(target=append_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(spool) == 800
    assert spool.read(0, limit=1000) == read(path)
    spool.close()


def test_lines_of_another_process_do_not_shift_positions(path: Path) -> None:
    spool, zombie = Spool(path), Spool(path)

    spool.append(make_metrics(1))
    zombie.append(make_metrics(2))
    spool.append(make_metrics(3))

    assert spool.read(0, limit=9) == [make_metrics(1), make_metrics(2), make_metrics(3)]
    assert spool.read(2, limit=9) == [make_metrics(3)]
    spool.close()
    zombie.close()


def test_half_a_line_on_a_full_disk_does_not_spoil_the_next(path: Path) -> None:
    spool = Spool(path)
    for step in range(1000):
        spool.append(make_progress(step))

    with limit_file_size(path.stat().st_size + 20), pytest.raises(OSError, match="too large"):
        spool.append(make_metrics(1))
    spool.append(make_metrics(2))

    assert spool.read(1000, limit=9) == [make_metrics(2)]
    assert len(read(path)) == 1001
    spool.close()


def test_reading_in_batches_gives_all_records(path: Path) -> None:
    reported = [make_metrics(step) for step in range(1234)]
    write(path, *reported)
    spool = Spool(path)
    received: list[Record] = []

    while batch := spool.read(len(received), limit=100):
        received += batch

    assert received == reported
    spool.close()


def write(path: Path, *records: Record) -> None:
    spool = Spool(path)
    for record in records:
        spool.append(record)
    spool.close()


def read(path: Path) -> list[Record]:
    spool = Spool(path)
    records = spool.read(0, limit=10_000)
    spool.close()
    return records


def list_values(record: Record) -> dict[str, float]:
    assert isinstance(record, Metrics)
    return record.values


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_has_space_for_the_outcome(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool.jsonl")
    spool.append(make_metrics(1))
    spool.allocate_reserve()
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))
    with pytest.raises(OSError, match="No space left"):
        append_metrics(spool, steps=1000)
    num_records = len(spool)

    spool.append(make_outcome())

    assert spool.read(num_records, limit=10) == [make_outcome()]
    spool.close()


def append_metrics(spool: Spool, *, steps: int) -> None:
    for step in range(steps):
        spool.append(make_metrics(step))
