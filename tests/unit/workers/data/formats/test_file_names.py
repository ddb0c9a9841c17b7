"""Names of files that are written differently than the files are named."""

import unicodedata
from pathlib import Path

import pytest

from workers.data.formats.file_names import FileIndex

COMPOSED = unicodedata.normalize("NFC", "é.png")
DECOMPOSED = unicodedata.normalize("NFD", "é.png")


def make_files(folder: Path, *names: str) -> FileIndex:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return FileIndex(folder)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("images/a.png", "images\\a.png"),
        ("a.png", "a.png "),
        ("a.png", " a.png\t"),
        ("images/a.png", "images /a.png"),
        (COMPOSED, DECOMPOSED),
        (DECOMPOSED, COMPOSED),
        ("a.png", "A.PNG"),
        ("Ä.png", "ä.PNG"),
        ("a.png", "a.jpg"),
        ("000001.jpg", "000001"),
        ("frame.0001.jpg", "frame.0001"),
        ("a.png", "images/a.png"),
        ("train/a.png", "images/train/a.png"),
        ("images/a.png", "a.png"),
        ("deep/images/a.png", "images/a.png"),
        ("a.png", "/home/pi/images/a.png"),
        ("a.png", "C:\\Users\\pi\\a.png"),
        ("a.png", "C:/Users/pi/a.png"),
        ("a.png", "file:///home/pi/a.png"),
        ("a.png", "\\\\server\\share\\a.png"),
    ],
    ids=ascii,
)
def test_the_one_file_that_fits_is_taken_and_noted(tmp_path: Path, file: str, name: str) -> None:
    matches = make_files(tmp_path, file, "other.png").match([name])

    assert matches.files == {name: file}
    assert matches.failures == {}
    assert f"{name!a} is taken for {file!a}" in matches.notes[0]


@pytest.mark.parametrize("name", ["a.png", "images/a.png", "./a.png", "a b .png", "x\\y.png"])
def test_a_name_that_exists_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    matches = make_files(tmp_path, name, "A.PNG", "x/y.png").match([name])

    assert (matches.files, matches.notes) == ({name: name}, ())


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (("a.png", "A.PNG"), "A.png"),
        (("a.png", "a.tif"), "a.jpg"),
        (("one/a.png", "two/a.png"), "a.png"),
        (("a\u00a0b.png",), "a b.png"),
        (("a\u200b.png",), "a.png"),
        (("\uff41.png",), "a.png"),
    ],
    ids=ascii,
)
def test_what_is_not_certain_is_shown_with_escapes(
    tmp_path: Path, files: tuple[str, ...], name: str
) -> None:
    matches = make_files(tmp_path, *files).match([name])

    assert matches.files == {}
    assert f"there is no file {name!a}; similar" in matches.failures[name]
    assert ascii(files[0]) in matches.failures[name]


@pytest.mark.parametrize(
    "name", ["gone.png", "../a.png", "x/../a.png", "a\0.png", "seq0/a.png", "n" * 300, ""]
)
def test_other_names_stay_for_the_check_of_images(tmp_path: Path, name: str) -> None:
    matches = make_files(tmp_path, "seq1/a.png", "b.png").match([name])

    assert (matches.files, matches.failures) == ({}, {})


def test_a_file_that_is_named_exactly_belongs_to_nobody_else(tmp_path: Path) -> None:
    matches = make_files(tmp_path, "a.png").match(["a.png", "A.PNG", "a.jpg"])

    assert matches.files == {"a.png": "a.png"}


def test_a_file_that_two_names_mean_is_given_to_neither(tmp_path: Path) -> None:
    matches = make_files(tmp_path, "a.png").match(["A.PNG", "a.jpg"])

    assert matches.files == {}
    assert matches.failures["A.PNG"] == "'a.png' is similar to 'A.PNG', 'a.jpg'"


def test_a_folder_that_links_to_its_parent_is_entered_once(tmp_path: Path) -> None:
    index = make_files(tmp_path, "deep/a.png")
    (tmp_path / "deep" / "up").symlink_to(tmp_path)

    assert index.paths == ("deep/a.png",)
