"""Imports: every problem is reported, and either everything is written or nothing."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from configs.spec.dataset import MANIFEST
from tests.support.workers.dataset_folders import (
    COCO_BOX,
    CocoFolder,
    VocFolder,
    coco_box,
    coco_image,
    voc_object,
    voc_xml,
    write_image,
)
from workers.data.formats.coco import read_coco
from workers.data.formats.parsed import ParsedSplit
from workers.data.formats.voc import read_voc
from workers.data.import_report import ImportRefused, SplitCounts
from workers.data.importer import (
    DatasetImportRequest,
    DatasetImportResult,
    ImportOptions,
    import_dataset,
)
from workers.data.manifest import Origin, SplitName, check_dataset, recompute_digest
from workers.data.problems import Problem, ProblemCode, describe_code
from workers.errors import DatasetError

DROP = ImportOptions(drop_bad=True)


@pytest.fixture
def coco(tmp_path: Path) -> CocoFolder:
    return CocoFolder(tmp_path / "theirs")


@pytest.fixture
def voc(tmp_path: Path) -> VocFolder:
    return VocFolder(tmp_path / "theirs")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "ours" / "pets"


def parse_splits(source: CocoFolder | VocFolder) -> Mapping[SplitName, ParsedSplit]:
    if isinstance(source, VocFolder):
        return {"train": read_voc(source.root, "train"), "val": read_voc(source.root, "val")}
    source.save()
    return {
        "train": read_coco(source.train_json, source.root / "train")[0],
        "val": read_coco(source.val_json, source.root / "val")[0],
    }


def import_from(
    source: CocoFolder | VocFolder,
    out: Path,
    options: ImportOptions = ImportOptions(),  # noqa: B008 - frozen
    classes: tuple[str, ...] = ("dog", "cat"),
) -> DatasetImportResult:
    request = DatasetImportRequest("pets", classes, Origin("here", "free"))
    return import_dataset(parse_splits(source), out, request=request, options=options)


def read_problems(source: CocoFolder | VocFolder, out: Path) -> tuple[Problem, ...]:
    with pytest.raises(ImportRefused) as exc_info:
        import_from(source, out)
    return exc_info.value.report.problems


def load_document(out: Path, part: str = "train") -> dict[str, Any]:
    return dict(json.loads((out / "annotations" / f"{part}.json").read_text()))


def test_a_valid_dataset_is_imported_completely(coco: CocoFolder, out: Path) -> None:
    imported = import_from(coco, out)

    assert imported.report.problems == ()
    assert imported.manifest == check_dataset(out, digest=recompute_digest(out, imported.manifest))
    assert imported.manifest.classes == ("dog", "cat")
    assert (imported.manifest.train.num_images, imported.manifest.train.num_boxes) == (2, 2)
    assert load_document(out) == {
        "images": [coco_image(1, "a.png"), coco_image(2, "b.png")],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 2,
                "bbox": COCO_BOX,
                "area": 150.5,
                "iscrowd": 0,
            },
            {
                "id": 2,
                "image_id": 2,
                "category_id": 2,
                "bbox": COCO_BOX,
                "area": 150.5,
                "iscrowd": 0,
            },
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }


def test_images_are_linked_where_that_is_possible(coco: CocoFolder, out: Path) -> None:
    imported = import_from(coco, out)

    assert (out / "images" / "train" / "a.png").samefile(coco.root / "train" / "a.png")
    assert (imported.num_linked, imported.copied) == (3, {})


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or os.stat("/dev/shm").st_dev == os.stat("/tmp").st_dev,  # noqa: PTH116
    reason="needs a second file system",
)
def test_images_are_copied_where_they_cannot_be_linked(coco: CocoFolder, tmp_path: Path) -> None:
    out = Path("/dev/shm") / f"tandem-test-{os.getpid()}"
    try:
        imported = import_from(coco, out)
        digest = recompute_digest(out, imported.manifest)
    finally:
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        out.rmdir()

    assert (imported.num_linked, dict(imported.copied)) == (0, {"Invalid cross-device link": 3})
    assert digest == import_from(coco, tmp_path / "linked").manifest.digest


def test_subfolders_of_the_images_are_preserved(coco: CocoFolder, out: Path) -> None:
    write_image(coco.root / "train" / "deep" / "d.png", shade=9)
    coco.train["images"].append(coco_image(13, "./deep//d.png"))

    import_from(coco, out)

    assert load_document(out)["images"][2]["file_name"] == "deep/d.png"
    assert (out / "images" / "train" / "deep" / "d.png").is_file()


def test_categories_are_matched_by_name(coco: CocoFolder, out: Path) -> None:
    coco.val["categories"] = [{"id": 1, "name": "cat"}]
    coco.val["annotations"][0]["category_id"] = 1

    import_from(coco, out)

    assert load_document(out, "val")["annotations"][0]["category_id"] == 2
    assert load_document(out, "val")["categories"] == load_document(out, "train")["categories"]


def test_boxes_that_exceed_the_image_by_rounding_are_trimmed_and_counted(
    coco: CocoFolder, out: Path
) -> None:
    coco.train["annotations"][0]["bbox"] = [-0.5, 4, 41, 20]

    imported = import_from(coco, out)

    assert load_document(out)["annotations"][0]["bbox"] == [0, 4, 40, 20]
    assert imported.report.num_trimmed == 1


@pytest.mark.parametrize(
    ("bbox", "codes"),
    [
        ([4, 4, 0, 20], (ProblemCode.DEGENERATE_BOX,)),
        ([4, 4, 15, 0.9], (ProblemCode.DEGENERATE_BOX,)),
        ([4, 4, -3, 20], (ProblemCode.DEGENERATE_BOX,)),
        ([39.5, 4, 1.2, 20], (ProblemCode.DEGENERATE_BOX,)),
        ([30, 4, 12, 20], (ProblemCode.BOX_OUTSIDE,)),
        ([-2, 4, 12, 20], (ProblemCode.BOX_OUTSIDE,)),
        ([4, 100, 12, 20], (ProblemCode.BOX_OUTSIDE,)),
        ([4, 100, 12, 0], (ProblemCode.BOX_OUTSIDE, ProblemCode.DEGENERATE_BOX)),
        ([4, 4, 1, 1], ()),
        ([0, 0, 40, 30], ()),
    ],
    ids=repr,
)
def test_boxes_are_judged(
    coco: CocoFolder, out: Path, bbox: list[float], codes: tuple[ProblemCode, ...]
) -> None:
    coco.train["annotations"].append(coco_box(5, 11, bbox=bbox))

    problems = import_from(coco, out, DROP).report.problems

    assert {problem.code for problem in problems} == set(codes)
    assert {problem.location for problem in problems} <= {"annotation 5"}


def break_coco(coco: CocoFolder) -> None:
    """Add nearly every kind of problem, each in a separate image or box."""
    folder = coco.root / "train"
    write_image(folder / "short.jpg", size=(200, 200), shade=5)
    (folder / "short.jpg").write_bytes((folder / "short.jpg").read_bytes()[:9000])
    write_image(folder / "other_size.png", shade=6)
    write_image(folder / "also_in_val.png", shade=2)
    coco.train["categories"].append({"id": 7, "name": "cat"})
    coco.train["categories"][-1]["id"] = 9
    coco.train["images"] += [
        coco_image(31, "not_there.png"),
        coco_image(32, "short.jpg", size=(200, 200)),
        coco_image(33, "other_size.png", size=(30, 40)),
        coco_image(34, "../val/c.png"),
        coco_image(35, "a.png"),
        coco_image(36, "also_in_val.png"),
        coco_image(12, "b2.png"),
        {"id": 37, "width": 40, "height": 30},
        {"id": 38, "file_name": 5, "width": 40, "height": 30},
    ]
    coco.train["annotations"] += [
        coco_box(41, 11, bbox=[1, 1, 0, 5]),
        coco_box(42, 11, bbox=[30, 1, 20, 5]),
        coco_box(43, 11, bbox=[1, 1, "a", 5]),
        coco_box(44, 11, category_id=9),
        coco_box(45, 999),
        coco_box(0, 11),
    ]


COCO_FLAWS = {
    ("category 9", ProblemCode.DUPLICATE_CLASS),
    ("image 31", ProblemCode.MISSING_IMAGE),
    ("image 32", ProblemCode.UNREADABLE_IMAGE),
    ("image 33", ProblemCode.SIZE_MISMATCH),
    ("image 34", ProblemCode.UNSAFE_PATH),
    ("image 35", ProblemCode.DUPLICATE_FILE_NAME),
    ("image 36", ProblemCode.LEAK),
    ("image 12", ProblemCode.DUPLICATE_IMAGE_ID),
    ("image 37", ProblemCode.MISSING_FIELD),
    ("image 38", ProblemCode.BAD_VALUE),
    ("annotation 41", ProblemCode.DEGENERATE_BOX),
    ("annotation 42", ProblemCode.BOX_OUTSIDE),
    ("annotation 43", ProblemCode.BAD_NUMBER),
    ("annotation 44", ProblemCode.UNKNOWN_CLASS),
    ("annotation 45", ProblemCode.ORPHAN_ANNOTATION),
    ("annotation 0", ProblemCode.DUPLICATE_ANNOTATION_ID),
}


def test_one_report_has_every_problem_with_file_and_id(coco: CocoFolder, out: Path) -> None:
    break_coco(coco)

    problems = read_problems(coco, out)

    assert {(problem.location, problem.code) for problem in problems} == COCO_FLAWS
    assert {problem.file for problem in problems} == {str(coco.train_json)}
    assert len(problems) == len(COCO_FLAWS)


def test_every_kind_of_problem_is_tested_and_explained() -> None:
    file_problems = {ProblemCode.MISSING_FILE, ProblemCode.MALFORMED_FILE, ProblemCode.EMPTY_SPLIT}
    of_images_only = {ProblemCode.COPY}  # tests/unit/workers/cli/test_image_imports.py

    assert {code for _, code in COCO_FLAWS} | file_problems | of_images_only == set(ProblemCode)
    assert all(describe_code(code) for code in ProblemCode)


def test_dropping_keeps_the_rest_and_says_how_much_went(coco: CocoFolder, out: Path) -> None:
    break_coco(coco)

    imported = import_from(coco, out, DROP)

    assert [image["file_name"] for image in load_document(out)["images"]] == ["a.png"]
    assert [box["bbox"] for box in load_document(out)["annotations"]] == [COCO_BOX]
    assert imported.report.splits == {
        "train": SplitCounts(11, 1, 8, 1, emptied_images=0, clippable_boxes=1),
        "val": SplitCounts(1, 1, 1, 1, emptied_images=0, clippable_boxes=0),
    }
    assert sorted(path.name for path in (out / "images" / "train").iterdir()) == ["a.png"]


def test_nothing_is_written_unless_bad_things_may_be_dropped(coco: CocoFolder, out: Path) -> None:
    break_coco(coco)

    read_problems(coco, out)

    assert not out.parent.exists()


def test_one_report_of_a_voc_folder_has_files_and_lines(voc: VocFolder, out: Path) -> None:
    voc.annotate("a", voc_xml(voc_object(), voc_object(box=(9, 9, 9, 9)), voc_object("bird")))
    voc.annotate("b", voc_xml(voc_object(box=(1, 1, 99, 20)), size=(99, 30)))
    voc.add("d", shade=2)
    voc.write_list("train", "a", "b", "gone", "d")
    voc.annotate("gone", voc_xml(voc_object()))

    problems = read_problems(voc, out)

    folder = voc.root / "Annotations"
    assert [(problem.file, problem.location, problem.code) for problem in problems] == [
        (f"{folder}/a.xml", "line 8", ProblemCode.DEGENERATE_BOX),
        (f"{folder}/a.xml", "line 12", ProblemCode.UNKNOWN_CLASS),
        (f"{folder}/b.xml", "line 3", ProblemCode.SIZE_MISMATCH),
        (f"{folder}/d.xml", "line 2", ProblemCode.LEAK),
        (f"{folder}/gone.xml", "line 2", ProblemCode.MISSING_IMAGE),
    ]


def test_a_leak_is_dropped_from_train_and_stays_in_val(voc: VocFolder, out: Path) -> None:
    voc.write_list("train", "a", "b", "c")

    imported = import_from(voc, out, DROP)

    assert [problem.code for problem in imported.report.problems] == [ProblemCode.LEAK]
    assert [image["file_name"] for image in load_document(out)["images"]] == ["a.jpg", "b.jpg"]
    assert [image["file_name"] for image in load_document(out, "val")["images"]] == ["c.jpg"]


def test_a_link_out_of_the_images_is_refused(voc: VocFolder, out: Path) -> None:
    secret = write_image(voc.root / "secret.jpg", shade=8)
    voc.image("a").unlink()
    voc.image("a").symlink_to(secret)

    (problem,) = read_problems(voc, out)

    assert (problem.code, problem.image) == (ProblemCode.UNSAFE_PATH, "a.jpg")


def test_a_part_without_boxes_is_refused_even_when_dropping(coco: CocoFolder, out: Path) -> None:
    coco.val["annotations"] = []
    coco.save()

    with pytest.raises(ImportRefused) as exc_info:
        import_from(coco, out, DROP)

    assert [problem.code for problem in exc_info.value.report.problems] == [ProblemCode.EMPTY_SPLIT]
    assert not out.exists()


def test_a_dataset_is_not_replaced_unasked(coco: CocoFolder, out: Path) -> None:
    first = import_from(coco, out)

    with pytest.raises(DatasetError, match="--replace"):
        import_from(coco, out)
    del coco.train["annotations"][0]
    second = import_from(coco, out, ImportOptions(replace=True))

    assert first.manifest.digest != second.manifest.digest
    assert json.loads((out / MANIFEST).read_text())["digest"] == second.manifest.digest
    assert [path.name for path in out.parent.iterdir()] == ["pets"]


def test_an_import_that_is_interrupted_leaves_nothing(coco: CocoFolder, out: Path) -> None:
    request = DatasetImportRequest("pets", ("dog", "cat"), Origin("here", "free"))

    with pytest.raises(KeyboardInterrupt):
        import_dataset(
            parse_splits(coco), out, request=request, options=ImportOptions(), on_image=interrupt
        )

    assert not out.parent.exists()


def interrupt() -> None:
    raise KeyboardInterrupt
