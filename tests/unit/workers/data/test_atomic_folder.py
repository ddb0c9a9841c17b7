"""A dataset's folder is created atomically."""

from pathlib import Path

import pytest

from configs.spec.dataset import MANIFEST
from workers.data.atomic_folder import check_output_folder, open_atomic_folder
from workers.errors import DatasetError


def fill(folder: Path, text: str = "new") -> None:
    (folder / MANIFEST).write_text(text)


def make_existing(folder: Path) -> Path:
    folder.mkdir()
    fill(folder, "old")
    return folder


def interrupt_creation(out: Path) -> None:
    with open_atomic_folder(out, replace=False) as folder:
        fill(folder)
        raise KeyboardInterrupt


def create_concurrently(out: Path) -> None:
    with open_atomic_folder(out, replace=False) as folder:
        fill(folder)
        make_existing(out)


def test_the_folder_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "pets"

    with open_atomic_folder(out, replace=False) as folder:
        fill(folder)
        assert not out.exists()
        assert folder.parent == out.parent

    assert [path.name for path in out.parent.iterdir()] == ["pets"]
    assert (out / MANIFEST).read_text() == "new"


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt_creation(tmp_path / "pets")

    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_not_overwritten_unasked(tmp_path: Path) -> None:
    out = make_existing(tmp_path / "pets")

    with pytest.raises(DatasetError, match="--replace"), open_atomic_folder(out, replace=False):
        pass

    assert (out / MANIFEST).read_text() == "old"


def test_a_dataset_is_replaced_with_replace(tmp_path: Path) -> None:
    out = make_existing(tmp_path / "pets")

    with open_atomic_folder(out, replace=True) as folder:
        fill(folder)
        assert (out / MANIFEST).read_text() == "old"

    assert (out / MANIFEST).read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_an_old_dataset_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    out = make_existing(tmp_path / "pets")

    with pytest.raises(OSError, match="disk"), open_atomic_folder(out, replace=True):
        raise OSError("disk full")

    assert (out / MANIFEST).read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_is_no_dataset_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")

    with (
        pytest.raises(DatasetError, match="no dataset"),
        open_atomic_folder(tmp_path, replace=True),
    ):
        pass

    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_dataset_created_concurrently_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "pets"

    with pytest.raises(DatasetError, match="--replace"):
        create_concurrently(out)

    assert (out / MANIFEST).read_text() == "old"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "pets"
    out.mkdir()

    with open_atomic_folder(out, replace=False) as folder:
        fill(folder)

    assert (out / MANIFEST).exists()


def test_a_source_inside_of_what_is_replaced_is_saved(tmp_path: Path) -> None:
    out = make_existing(tmp_path / "pets")

    with pytest.raises(DatasetError, match="would remove"):
        check_output_folder(out, replace=True, sources=[out / "images" / "train"])
