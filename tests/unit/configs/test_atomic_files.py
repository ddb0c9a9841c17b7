"""Files that are replaced as a whole."""

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from configs.atomic_files import open_atomically, write_atomically


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_by_bytes_or_text(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "status.json"
    path.write_text("a longer old content", encoding="utf-8")

    write_atomically(path, "µ", durable=durable)

    assert path.read_bytes() == "µ".encode()
    write_atomically(path, b"\x00", durable=durable)
    assert path.read_bytes() == b"\x00"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_have_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    path.write_bytes(b"old")

    with open_atomically(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    assert path.read_bytes() == b"new"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    path.write_bytes(b"old")

    with pytest.raises(KeyboardInterrupt):
        write_half(path, interrupt)

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    path.write_bytes(b"old")

    writer = get_context("fork").Process(target=write_half, args=(path, kill_process))
    writer.start()
    writer.join()

    assert writer.exitcode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_writers_of_the_same_file_do_not_mix_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "reporting.json"

    with open_atomically(path) as first, open_atomically(path) as second:
        first.write(b"first")
        second.write(b"second, longer")

    assert path.read_bytes() == b"first"


@pytest.mark.parametrize(("mode", "expected"), [(0o600, 0o600), (0o666, 0o640)])
def test_the_mode_is_reduced_by_the_umask(tmp_path: Path, mode: int, expected: int) -> None:
    umask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "key", "secret", mode=mode)
    finally:
        os.umask(umask)

    assert (tmp_path / "key").stat().st_mode & 0o777 == expected


def test_what_is_synced_to_disk_is_the_file_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pth"
    synced: list[tuple[str, bool]] = []

    def record_sync(handle: int) -> None:
        target = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append(("folder" if target.is_dir() else "file", path.exists()))

    monkeypatch.setattr(os, "fsync", record_sync)

    write_atomically(path, b"new")

    assert synced == [("file", False), ("folder", True)]
    write_atomically(path, b"newer", durable=False)
    assert len(synced) == 2


def write_half(path: Path, fail: Callable[[], None]) -> None:
    with open_atomically(path) as file:
        file.write(b"half")
        file.flush()
        fail()


def interrupt() -> None:
    raise KeyboardInterrupt


def kill_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
