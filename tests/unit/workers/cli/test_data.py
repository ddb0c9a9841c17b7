"""The commands of `tandem-worker data`."""

import io
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from configs.protocol.dataset_statistics import CONTACT_SHEET, STATISTICS
from configs.protocol.names import ExitCode
from configs.spec.dataset import MANIFEST
from tests.support.workers.dataset_folders import CocoFolder, VocFolder, voc_object, voc_xml
from workers.cli import main
from workers.cli.layout_imports import app
from workers.data.import_report import REPORT
from workers.data.manifest import read_manifest, recompute_digest
from workers.data.statistics.dataset import read_statistics

FEW = ("--train", "4", "--val", "2", "--empty-share", "0")


def run_data_command(*text: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in text])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "ours" / "set"


@pytest.fixture
def voc(tmp_path: Path) -> VocFolder:
    return VocFolder(tmp_path / "theirs")


def import_voc(voc: VocFolder, out: Path, *options: str) -> Result:
    return run_data_command(
        "import-voc", "--root", voc.root, "--out", out, "--name", "pets", *options
    )


def test_digits_are_created_and_described(out: Path) -> None:
    result = run_data_command("digits", "--out", out, "--name", "digits-few", *FEW)

    manifest = read_manifest(out)
    assert result.exit_code == 0
    assert manifest.name == "digits-few"
    for text in ("digits-few, 10 classes: 0, 1", "4 images", manifest.digest, str(out)):
        assert text in result.output


def test_existing_digits_are_not_written_again(out: Path) -> None:
    run_data_command("digits", "--out", out, *FEW)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    result = run_data_command("digits", "--out", out, *FEW)

    assert result.exit_code == 0
    assert "nothing was done" in result.output
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_other_digits_need_leave_to_replace(out: Path) -> None:
    run_data_command("digits", "--out", out, *FEW)

    result = run_data_command("digits", "--out", out, *FEW, "--seed", "1")
    replaced = run_data_command("digits", "--out", out, *FEW, "--seed", "1", "--replace")

    assert result.exit_code == ExitCode.REFUSED
    assert "--replace" in result.output
    assert replaced.exit_code == 0
    assert "seed 1" in read_manifest(out).source


def test_damaged_digits_are_detected_and_can_be_replaced(out: Path) -> None:
    run_data_command("digits", "--out", out, *FEW)
    digest = read_manifest(out).digest
    next((out / "images" / "val").iterdir()).write_bytes(b"")

    result = run_data_command("digits", "--out", out, *FEW)
    replaced = run_data_command("digits", "--out", out, *FEW, "--replace")

    assert result.exit_code == ExitCode.REFUSED
    assert replaced.exit_code == 0
    assert "nothing was done" not in replaced.output
    assert digest in replaced.output


def test_sizes_of_digits_follow_the_size_of_images(out: Path) -> None:
    run_data_command("digits", "--out", out, *FEW, "--image-size", "320")

    assert "smallest 28, largest 144" in read_manifest(out).source


@pytest.mark.parametrize(
    "options",
    [("--name", "Big Name"), ("--largest", "150"), ("--train", "0")],
    ids=["name", "too large", "no images"],
)
def test_options_that_make_no_sense_are_refused(out: Path, options: tuple[str, ...]) -> None:
    result = run_data_command("digits", "--out", out, *options)

    assert result.exit_code == 2
    assert not out.exists()


def test_problems_are_lines_and_counts_and_nothing_is_written(voc: VocFolder, out: Path) -> None:
    voc.annotate("a", voc_xml(voc_object(), voc_object(box=(9, 9, 9, 9))))
    voc.image("b").unlink()

    result = import_voc(voc, out)

    assert result.exit_code == ExitCode.REFUSED
    assert f"{voc.xml('a')}: line 8: degenerate_box: cat" in result.output
    assert f"{voc.xml('b')}: line 2: missing_image:" in result.output
    assert "1 degenerate_box: a box narrower or lower than 1 pixel" in result.output
    assert "--drop-bad" in result.output
    assert not out.parent.exists()


def test_what_was_dropped_is_printed(voc: VocFolder, out: Path) -> None:
    voc.annotate("a", voc_xml(voc_object(), voc_object(box=(9, 9, 9, 9))))
    voc.image("b").unlink()

    result = import_voc(voc, out, "--drop-bad")

    assert result.exit_code == 0
    assert "Dropped from train: 1 images, 2 boxes." in result.output
    assert "Hard-linked: 2 images" in result.output
    assert "pets, 1 classes: cat" in result.output


def test_classes_of_voc_are_those_that_occur_in_order(voc: VocFolder, out: Path) -> None:
    voc.annotate("c", voc_xml(voc_object("zebra"), voc_object("ant")))

    import_voc(voc, out)

    assert read_manifest(out).classes == ("ant", "cat", "zebra")


def test_named_classes_keep_their_order_and_others_are_unknown(voc: VocFolder, out: Path) -> None:
    voc.annotate("b", voc_xml(voc_object("zebra"), voc_object("ant")))

    result = import_voc(voc, out, "--classes", "zebra, cat", "--drop-bad")

    assert "'ant' is not among the classes" in result.output
    assert read_manifest(out).classes == ("zebra", "cat")


def test_coco_is_brought_in_with_its_classes(tmp_path: Path, out: Path) -> None:
    coco = CocoFolder(tmp_path / "theirs")
    coco.save()

    result = run_data_command(
        "import-coco",
        *("--out", out, "--name", "pets", "--license", "CC BY 4.0"),
        *("--train-annotations", coco.train_json, "--train-images", coco.root / "train"),
        *("--val-annotations", coco.val_json, "--val-images", coco.root / "val"),
    )

    assert result.exit_code == 0, result.output
    assert read_manifest(out).classes == ("dog", "cat")
    assert read_manifest(out).license == "CC BY 4.0"


def test_a_folder_without_anything_is_refused_without_a_traceback(
    tmp_path: Path, out: Path
) -> None:
    result = run_data_command(
        "import-voc", "--root", tmp_path, "--out", out, "--name", "pets", "--drop-bad"
    )

    assert result.exit_code == ExitCode.REFUSED
    assert "train.txt: whole file: missing_file" in result.output
    assert "train or val would be empty" in result.output


def test_a_folder_with_other_things_is_never_replaced(voc: VocFolder, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "thesis.tex").write_text("precious")

    result = import_voc(voc, out, "--replace")

    assert result.exit_code == ExitCode.REFUSED
    assert "no dataset" in result.output
    assert not (out / MANIFEST).exists()


def test_a_voc_folder_is_imported_again_with_what_changed_in_it(voc: VocFolder, out: Path) -> None:
    import_voc(voc, out)
    voc.add("a", voc_object(), voc_object(box=(1, 1, 9, 9)))

    result = import_voc(voc, out)
    refreshed = import_voc(voc, out, "--refresh")

    assert result.exit_code == ExitCode.REFUSED
    assert refreshed.exit_code == 0, refreshed.output
    assert read_manifest(out).train.num_boxes == 3


def test_a_refresh_replaces_nothing_that_came_from_elsewhere(voc: VocFolder, out: Path) -> None:
    import_voc(voc, out)
    before = read_manifest(out)

    result = import_voc(voc, out, "--train-set", "val", "--val-set", "train", "--refresh")

    assert result.exit_code == ExitCode.REFUSED
    assert read_manifest(out) == before


@pytest.mark.parametrize("command", ["import", "import-voc"])
def test_a_recognized_folder_replaces_an_earlier_import_of_the_same_folder(
    voc: VocFolder, out: Path, command: str
) -> None:
    options = ("--root", voc.root, "--out", out, "--name", "pets")
    run_data_command(command, *options)
    voc.add("a", voc_object(), voc_object(box=(1, 1, 9, 9)))

    refused = run_data_command("import", *options)
    refreshed = run_data_command("import", *options, "--refresh")

    assert refused.exit_code == ExitCode.REFUSED
    assert refreshed.exit_code == 0, refreshed.output
    assert read_manifest(out).train.num_boxes == 3


def test_an_import_counts_what_it_imports(voc: VocFolder, out: Path) -> None:
    import_voc(voc, out)

    statistics = read_statistics(out, read_manifest(out))

    assert statistics is not None
    assert (statistics.train.num_objects, statistics.val.num_objects) == (2, 1)


def test_a_dataset_is_shown_with_its_sample_images(voc: VocFolder, out: Path) -> None:
    import_voc(voc, out)

    result = run_data_command("show", out)

    assert result.exit_code == 0
    for text in ("pets, 1 classes: cat", "small, below 32 x 32 px", "looks like", "contact-sheet"):
        assert text in result.output
    assert (out / CONTACT_SHEET).stat().st_size > 1000


def test_an_older_import_gets_its_statistics_when_it_is_shown(voc: VocFolder, out: Path) -> None:
    import_voc(voc, out)
    (out / STATISTICS).unlink()

    result = run_data_command("show", out, "--quiet", "--sheet", out.parent / "sheet.png")

    assert (result.exit_code, result.output) == (0, "")
    assert read_statistics(out, read_manifest(out)) is not None
    assert (out.parent / "sheet.png").is_file()


def test_a_folder_without_a_dataset_cannot_be_shown(tmp_path: Path) -> None:
    result = run_data_command("show", tmp_path)

    assert result.exit_code == ExitCode.REFUSED
    assert "is no dataset" in result.output


def break_boxes(voc: VocFolder, count: int) -> None:
    boxes = [voc_object(), *[voc_object(box=(-4, 5, 20, 25))] * count]
    voc.annotate("a", voc_xml(*boxes))


def test_problems_of_one_cause_are_a_line_with_the_first_of_them(voc: VocFolder, out: Path) -> None:
    break_boxes(voc, 9)

    result = import_voc(voc, out)

    lines = result.output.splitlines()
    assert lines[0] == "9 box_outside: a box that reaches out of its image"
    assert lines[1].startswith(f"  {voc.xml('a')}: line 8: box_outside: cat with left -5")
    assert lines[4] == "  and 6 more; --report FILE lists all"
    assert "--drop-bad loses 9 of 12 boxes and 0 of 3 images." in result.output
    assert "--clip keeps all 12 boxes, and clips 9." in result.output


def test_clipping_keeps_every_box(voc: VocFolder, out: Path) -> None:
    break_boxes(voc, 9)

    result = import_voc(voc, out, "--clip")

    assert result.exit_code == 0, result.output
    assert "Clipped to the image in train: 9 boxes." in result.output
    assert read_manifest(out).train.num_boxes == 11


def test_images_that_lose_all_boxes_are_counted(voc: VocFolder, out: Path) -> None:
    voc.annotate("a", voc_xml(voc_object(box=(-4, 5, 20, 25))))

    result = import_voc(voc, out, "--drop-bad")

    assert "Without a box in train: 1 images that had some" in result.output


def test_a_dry_run_says_the_same_and_writes_nothing(voc: VocFolder, out: Path) -> None:
    dry = import_voc(voc, out, "--dry-run")
    assert not out.parent.exists()
    real = import_voc(voc, out)

    assert dry.exit_code == 0
    assert "Dry run: nothing was written." in dry.output
    assert f"digest  {read_manifest(out).digest}" in dry.output
    assert set(dry.output.splitlines()) - set(real.output.splitlines()) == {
        "Dry run: nothing was written."
    }


def test_the_report_lies_beside_the_dataset_and_where_it_is_asked_for(
    voc: VocFolder, out: Path, tmp_path: Path
) -> None:
    break_boxes(voc, 9)
    report_file = tmp_path / "report.json"

    import_voc(voc, out, "--report", str(report_file))
    refused = json.loads(report_file.read_text())
    import_voc(voc, out, "--drop-bad")
    written = json.loads((out / REPORT).read_text())

    assert len(refused["problems"]) == len(written["problems"]) == 9
    assert (refused["options"], written["options"]) == ([], ["--drop-bad"])
    manifest = read_manifest(out)
    assert recompute_digest(out, manifest) == manifest.digest


def test_links_out_of_the_folder_need_leave(voc: VocFolder, out: Path, tmp_path: Path) -> None:
    blob = voc.image("a").rename(tmp_path / "blob")
    voc.image("a").symlink_to(blob)

    refused = import_voc(voc, out)
    followed = import_voc(voc, out, "--follow-links")

    assert refused.exit_code == ExitCode.REFUSED
    assert "--follow-links allows it" in refused.output
    assert followed.exit_code == 0
    image = out / "images" / "train" / "a.jpg"
    assert image.is_file()
    assert not image.is_symlink()


def test_names_of_any_script_reach_a_terminal_of_another(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voc = VocFolder(tmp_path / "猫")
    voc.annotate("a", voc_xml(voc_object("猫"), voc_object(box=(9, 9, 9, 9))))
    options = [f"--root={voc.root}", f"--out={out}", "--name=pets", "--drop-bad"]
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "argv", ["tandem-worker", "data", "import-voc", *options])
    monkeypatch.setattr(sys, "stdout", terminal)

    with pytest.raises(SystemExit) as exit_:
        main()

    terminal.seek(0)
    output = terminal.read()
    assert exit_.value.code == 0, output
    assert r"2 classes: cat, \u732b" in output
    assert r"\u732b/Annotations/a.xml: line 8" in output


def test_a_folder_whose_name_is_not_utf8_is_imported(tmp_path: Path, out: Path) -> None:
    voc = VocFolder(tmp_path / "b\udcff")

    result = import_voc(voc, out)

    assert result.exit_code == 0, result.output
    assert read_manifest(out).source.startswith(rf"Pascal VOC folder {tmp_path}/b\udcff, lists")


def test_a_report_that_cannot_be_written_is_refused_before_the_import(
    voc: VocFolder, out: Path, tmp_path: Path
) -> None:
    result = import_voc(voc, out, "--report", str(tmp_path / "gone" / "report.json"))

    assert result.exit_code == 2
    assert not out.exists()
