"""The report as Markdown, with images as separate files."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.workers.report_inputs import (
    create_detection_files,
    make_baseline_run,
    make_distilled_run,
    make_manifest,
    make_run_inputs,
    make_run_report,
    make_sweep_inputs,
    make_sweep_report,
)
from workers.report.blocks import Panels, Photo
from workers.report.plots.images import Photos
from workers.report.render.markdown import Markdown, escape_markdown, render_markdown
from workers.report.sections.document import build_content

EVIL = "<img src=x onerror=alert(1)> | [a](javascript:x) `b` **c**\n# d"

EVIL_DATASET = make_manifest().model_copy(update={"name": EVIL})


@pytest.fixture(scope="module")
def markdown(tmp_path_factory: pytest.TempPathFactory) -> Markdown:
    inputs = make_sweep_inputs(tmp_path_factory.mktemp("sweep"))
    create_detection_files(inputs)
    boxes = [Photo(f"sample-01-{side}", b"jpeg", f"{side}: 1 box") for side in ("truth", "student")]
    panels = Panels(tuple(boxes), "a.jpg: evenly sampled")
    photos = Photos((Photo("missed-01", b"jpeg", "a.jpg: 1 object missed"),), (), (panels,))
    return render_markdown(
        build_content(inputs, make_sweep_report(inputs), photos=photos, dataset=make_manifest())
    )


def test_every_picture_that_it_shows_is_a_file_and_every_file_is_shown(markdown: Markdown) -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", markdown.text)

    assert set(pictures) == set(markdown.files)
    assert {"weights.svg", "learning-curves.svg", "importance.svg"} <= set(pictures)
    assert {"losses.svg", "sample-01-truth.jpg"} <= set(pictures)


def test_pictures_are_complete_files_in_light_colors(markdown: Markdown) -> None:
    svg_files = {n: data for n, data in markdown.files.items() if n.endswith(".svg")}

    for data in svg_files.values():
        ElementTree.fromstring(data)
        assert b"var(--" not in data
        assert b"#0102" not in data


def test_tables_have_as_many_cells_as_headings(markdown: Markdown) -> None:
    lines = markdown.text.splitlines()

    tables = [line for line in lines if line.startswith("|")]

    assert len(tables) > 20
    heading = 0
    for previous, line in zip(["", *tables], tables, strict=False):
        if set(line) <= set("|-: "):
            heading = line.count("|")
            assert previous.count("|") == heading
        elif heading and line in tables:
            assert line.count("|") > 2


def test_the_answer_stands_on_top(markdown: Markdown) -> None:
    title, _, answer, *_ = markdown.text.splitlines()

    assert title == "# Two weights and a learning rate"
    assert answer.startswith("**Distillation helps: +2.9")


def test_names_are_escaped(tmp_path: Path) -> None:
    runs = (
        make_baseline_run(tmp_path, name=EVIL),
        make_distilled_run(tmp_path, number=1, name=EVIL),
    )
    inputs = make_run_inputs(tmp_path, title=EVIL, runs=runs)
    report = make_run_report(title=EVIL)

    text = render_markdown(
        build_content(
            inputs,
            report,
            photos=Photos((), ()),
            dataset=EVIL_DATASET,
        )
    ).text

    assert "<img" not in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert "\n# d" not in text


def test_text_is_escaped_and_stays_on_one_line() -> None:
    assert escape_markdown("a|b\n# *c* <d> [e](f)") == r"a\|b \# \*c\* &lt;d&gt; \[e\](f)"
