"""Files of runs are deleted completely, and nothing else is, whatever links there are."""

import os
import shutil
from pathlib import Path

import pytest

from configs.protocol.names import RunFile
from service.adapters.disposal import LocalDisposal

RUN = "r00000000000a"
OTHER = "r00000000000b"


@pytest.fixture
def folders(tmp_path: Path) -> LocalDisposal:
    """A disposal of two runs, each with checkpoints, a spool and a stored log."""
    for run_id in (RUN, OTHER):
        checkpoints = tmp_path / "runs" / run_id / RunFile.CHECKPOINTS
        checkpoints.mkdir(parents=True)
        (checkpoints / "step-1.pth").write_bytes(b"x" * 8192)
        os.link(checkpoints / "step-1.pth", checkpoints / "last.pth")
        (tmp_path / "runs" / run_id / RunFile.SPOOL).write_bytes(b"{}\n")
        log = tmp_path / "logs" / run_id / "attempt-1"
        log.mkdir(parents=True)
        (log / "000000000000000.log").write_bytes(b"a line\n")
    return LocalDisposal(runs_dir=tmp_path / "runs", logs_dir=tmp_path / "logs")


def test_each_part_is_deleted_by_itself(tmp_path: Path, folders: LocalDisposal) -> None:
    assert folders.measure(RUN, "checkpoints") == 8192  # two names of one file

    assert folders.delete(RUN, "checkpoints") == 8192
    assert list_files(tmp_path / "runs" / RUN) == [RunFile.SPOOL]
    assert folders.delete(RUN, "spool") is not None
    assert list_files(tmp_path / "runs" / RUN) == []
    assert folders.delete(RUN, "logs") is not None
    assert folders.delete(RUN, "folder") is not None

    assert folders.delete(RUN, "folder") is None
    assert not (tmp_path / "logs" / RUN).exists()
    assert not (tmp_path / "runs" / RUN).exists()
    assert len(list_files(tmp_path / "runs" / OTHER)) == 3
    assert list((tmp_path / "runs" / ".deleted").iterdir()) == []


def test_a_link_in_place_of_the_folder_for_deletions_is_not_followed(
    tmp_path: Path, folders: LocalDisposal
) -> None:
    precious = make_precious(tmp_path)
    (tmp_path / "runs" / ".deleted").symlink_to(precious)
    trash = tmp_path / "logs" / ".deleted" / f"{RUN}-0"
    trash.mkdir(parents=True)

    assert folders.finish() == 1
    assert folders.delete(RUN, "folder") is None

    assert list_files(precious) == ["file"]
    assert (tmp_path / "runs" / RUN).exists()
    assert not trash.exists()


def test_links_in_a_folder_are_removed_and_what_they_point_to_stays(
    tmp_path: Path, folders: LocalDisposal
) -> None:
    precious = make_precious(tmp_path)
    (tmp_path / "runs" / RUN / "to-folder").symlink_to(precious)
    (tmp_path / "runs" / RUN / "to-file").symlink_to(precious / "file")

    folders.delete(RUN, "folder")

    assert not (tmp_path / "runs" / RUN).exists()
    assert list_files(precious) == ["file"]


@pytest.mark.parametrize("name", [RUN, f"{RUN}/checkpoints", ".deleted"])
def test_a_folder_that_is_a_link_is_left_alone(
    tmp_path: Path, folders: LocalDisposal, name: str
) -> None:
    precious = make_precious(tmp_path)
    (precious / "checkpoints").mkdir()
    link = tmp_path / "runs" / name
    if link.exists():
        shutil.rmtree(link)
    link.symlink_to(precious)

    assert folders.delete(RUN, "checkpoints") is None
    if name == RUN:
        assert folders.measure(RUN, "folder") is None
        assert folders.delete(RUN, "folder") is None

    assert link.is_symlink()
    assert (precious / "file").exists()
    assert (precious / "checkpoints").exists()


@pytest.mark.parametrize("run_id", ["..", ".", "../logs", "/etc", ".deleted", ""])
def test_only_an_id_names_a_folder(folders: LocalDisposal, run_id: str) -> None:
    with pytest.raises(ValueError, match="is not the id of a run"):
        folders.delete(run_id, "folder")


def test_an_interrupted_deletion_is_completed(
    tmp_path: Path, folders: LocalDisposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", crash)
        with pytest.raises(KeyboardInterrupt):
            folders.delete(RUN, "folder")
    has_left_trash = any((tmp_path / "runs" / ".deleted").iterdir())

    assert has_left_trash
    assert not (tmp_path / "runs" / RUN).exists()
    assert folders.finish() == 1
    assert not any((tmp_path / "runs" / ".deleted").iterdir())
    assert folders.finish() == 0
    assert len(list_files(tmp_path / "runs" / OTHER)) == 3


def make_precious(tmp_path: Path) -> Path:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    return precious


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
