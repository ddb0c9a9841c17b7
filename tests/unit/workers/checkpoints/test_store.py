"""Which checkpoints are kept, deleted and restored."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.protocol.names import RunFile
from configs.spec.compute import Checkpoints
from workers.checkpoints import store as checkpoints_store
from workers.checkpoints.files import compute_sha256, load_checkpoint
from workers.checkpoints.store import CheckpointStore
from workers.errors import Superseded


def make_store(
    folder: Path,
    messages: list[str] | None = None,
    *,
    check_superseded: Callable[[], bool] = lambda: False,
    **policy: Any,
) -> CheckpointStore:
    return CheckpointStore(
        folder,
        Checkpoints(**policy),
        notify=(messages if messages is not None else []).append,
        check_superseded=check_superseded,
    )


def write(store: CheckpointStore, step: int, *, size: int = 10) -> None:
    checkpoint = {"step": step, "weights": torch.zeros(size)}
    store.save_resume(checkpoint, step=step, epoch=step // 10, ends_epoch=step % 10 == 0)


def write_student(store: CheckpointStore, step: int, mean_ap: float) -> None:
    store.save_student({"step": step}, step=step, epoch=step // 10, mean_ap=mean_ap)


def list_files(folder: Path, pattern: str = "step-*.pth") -> list[int]:
    paths = (folder / RunFile.CHECKPOINTS).glob(pattern)
    return sorted(int(path.stem.rpartition("-")[2]) for path in paths)


def test_the_last_ones_stay(tmp_path: Path) -> None:
    store = make_store(tmp_path, keep_last=2)

    for step in (3, 6, 9, 12):
        write(store, step)

    assert list_files(tmp_path) == [9, 12]
    assert list_files(tmp_path, "step-*.json") == [9, 12]
    assert load_checkpoint(tmp_path / RunFile.LAST)["step"] == 12


def test_a_checkpoint_is_hashed_without_reading_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path)
    hashed: list[Path] = []

    def record_and_hash(path: Path) -> str:
        hashed.append(path)
        return compute_sha256(path)

    monkeypatch.setattr(checkpoints_store, "compute_sha256", record_and_hash)

    write(store, 10, size=3_000_000)

    assert hashed == []
    (manifest,) = store.list_manifests("resume")
    path = tmp_path / RunFile.CHECKPOINTS / manifest.file
    assert manifest.num_bytes == path.stat().st_size > 12_000_000
    assert manifest.sha256 == compute_sha256(path)


def test_every_nth_epoch_is_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path, keep_last=1, keep_every_epochs=2)

    for step in (10, 15, 20, 30, 40, 45):
        write(store, step)

    assert list_files(tmp_path) == [20, 40, 45]


def test_the_best_students_stay_and_of_equals_the_earlier_one(tmp_path: Path) -> None:
    store = make_store(tmp_path, keep_best=2)

    for step, mean_ap in ((10, 0.2), (20, 0.5), (30, 0.5), (40, 0.1)):
        write_student(store, step, mean_ap)

    assert list_files(tmp_path, "student-*.pth") == [20, 30]
    assert load_checkpoint(tmp_path / RunFile.BEST)["step"] == 20


def test_a_worse_student_never_takes_the_place_of_the_best(tmp_path: Path) -> None:
    store = make_store(tmp_path, keep_best=1)

    write_student(store, 10, 0.5)
    write_student(store, 20, 0.4)

    assert list_files(tmp_path, "student-*.pth") == [10]
    assert load_checkpoint(tmp_path / RunFile.BEST)["step"] == 10
    assert list((tmp_path / RunFile.CHECKPOINTS).glob("*.unfinished")) == []


def test_over_the_budget_the_oldest_go_and_the_newest_and_the_best_never_do(tmp_path: Path) -> None:
    store = make_store(tmp_path, keep_last=9, keep_every_epochs=1, max_gib=1e-9)
    write_student(store, 10, 0.5)

    for step in (10, 20, 30):
        write(store, step)

    assert list_files(tmp_path) == [30]
    assert list_files(tmp_path, "student-*.pth") == [10]


def test_within_the_budget_nothing_goes_before_its_time(tmp_path: Path) -> None:
    store = make_store(tmp_path, keep_last=9, max_gib=1.0)

    for step in (1, 2, 3):
        write(store, step)

    assert list_files(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("damage", ["cut", "changed", "without manifest", "manifest cut", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    messages: list[str] = []
    store = make_store(tmp_path, messages, keep_last=3)
    for step in (1, 2, 3):
        write(store, step, size=1000)
    path = tmp_path / RunFile.CHECKPOINTS / "step-000000003.pth"
    content = path.read_bytes()
    manifest = path.with_suffix(".json")
    match damage:
        case "cut":
            path.write_bytes(content[:-100])
        case "changed":
            path.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
        case "without manifest":
            manifest.unlink()
        case "manifest cut":
            manifest.write_bytes(manifest.read_bytes()[:20])
        case "gone":
            path.unlink()

    newest = store.load_newest()

    assert newest is not None
    assert newest["step"] == 2


def test_without_an_intact_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert make_store(tmp_path).load_newest() is None


def test_a_checkpoint_of_a_killed_writer_is_deleted(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    write(store, 1)
    folder = tmp_path / RunFile.CHECKPOINTS
    for name in ("step-000000009.pth", "step-000000009.pth.0a1b2c3d.unfinished"):
        (folder / name).write_bytes(b"no manifest, or half")
        os.utime(folder / name, (0.0, 0.0))

    write(store, 2)

    assert list_files(tmp_path) == [1, 2]
    assert not list(folder.glob("*.unfinished"))


class TestSupersededAttempt:
    """A process that was frozen continues while a newer attempt trains in the same folder."""

    def test_it_writes_nothing(self, tmp_path: Path) -> None:
        write(make_store(tmp_path), 1000)
        before = snapshot(tmp_path)

        with pytest.raises(Superseded):
            write(make_store(tmp_path, check_superseded=lambda: True), 200)

        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize("frozen_at", range(1, 5))
    def test_frozen_anywhere_it_leaves_last_and_the_newer_files(
        self, tmp_path: Path, frozen_at: int
    ) -> None:
        """The newer attempt writes while the older one is between two of its steps."""
        newer = make_store(tmp_path, keep_last=1)
        being_written = tmp_path / RunFile.CHECKPOINTS / "step-000001001.pth.0a1b2c3d.unfinished"
        num_checks = 0

        def check_superseded() -> bool:
            nonlocal num_checks
            num_checks += 1
            if num_checks == frozen_at:
                write(newer, 1000)
                being_written.write_bytes(b"half")
            return num_checks >= frozen_at

        with pytest.raises(Superseded):
            write(make_store(tmp_path, check_superseded=check_superseded, keep_last=1), 200)

        assert load_checkpoint(tmp_path / RunFile.LAST)["step"] == 1000
        assert 1000 in list_files(tmp_path)
        assert being_written.exists()
        assert (newest := newer.load_newest()) is not None
        assert newest["step"] == 1000

    def test_last_follows_the_newest_manifest(self, tmp_path: Path) -> None:
        write(make_store(tmp_path), 1000)

        write(make_store(tmp_path), 200)

        assert load_checkpoint(tmp_path / RunFile.LAST)["step"] == 1000

    def test_fresh_files_of_another_attempt_are_left_alone(self, tmp_path: Path) -> None:
        store = make_store(tmp_path)
        write(store, 1)
        folder = tmp_path / RunFile.CHECKPOINTS
        fresh = [
            folder / "step-000000009.pth",
            folder / "student-000000009.pth.0a1b2c3d.unfinished",
        ]
        for path in fresh:
            path.write_bytes(b"being written")

        write(store, 2)

        assert all(path.exists() for path in fresh)


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
