"""The page of a run and of a sweep: complete, self-contained, and safe for any names."""

import html
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeVar

import pytest
from PIL import Image

from configs.metric_keys import Metric
from configs.protocol.report import (
    MissedImage,
    Report,
    ReportInputs,
    ReportRun,
    RunExecution,
    TeacherStudent,
    Transfer,
)
from configs.protocol.sweep_log import SweepEntry, TrialEnded, TrialSuggested
from configs.spec.dataset import DatasetManifest
from configs.spec.search import Choice, NoScheduler
from configs.spec.sweep import Objective
from tests.support.workers.report_inputs import (
    CLS,
    LOC,
    SWEEP,
    create_detection_files,
    make_baseline_run,
    make_comparison,
    make_distilled_run,
    make_manifest,
    make_missed_image,
    make_run_id,
    make_run_inputs,
    make_run_report,
    make_sweep_inputs,
    make_sweep_report,
    make_sweep_spec,
    make_transfer,
)
from workers.report.blocks import Block, Cell, Column, Picture, ReportContent, Row, Table
from workers.report.plots.images import Photos, draw_photos
from workers.report.render.html import render_page
from workers.report.sections.document import build_content

PHONE_WIDTH, PIXELS_PER_REM = 390, 16
BlockT = TypeVar("BlockT", bound=Block)
EVIL = "<script>alert('&')</script>\"'|*_`[x](javascript:x) $\\frac{ 数字 $"
EVIL_DATASET = make_manifest().model_copy(update={"name": EVIL})
EVERY_RUN = [
    *("answer", "curves", "losses", "samples", "transfer", "copied"),
    *("configuration", "time", "runs", "repeat", "reading"),
]
OF_SWEEPS = ["trials", "weights", "parameters", "importance", "stopped", "front"]


class Outline(HTMLParser):
    """Tags, sections and links of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sections: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        attributes = dict(attrs)
        if tag == "section":
            self.sections.append(str(attributes["id"]))
        self.addresses += [
            str(attributes[name]) for name in ("href", "src") if attributes.get(name)
        ]


def render(
    inputs: ReportInputs,
    report: Report,
    *,
    photos: Photos | None = None,
    dataset: DatasetManifest | None = None,
) -> str:
    return render_page(
        build_content(
            inputs, report, photos=photos or Photos((), ()), dataset=dataset or make_manifest()
        )
    )


def plain_text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def make_grid_sweep(folder: Path) -> ReportInputs:
    """Make a grid search of two weights, with two objectives."""
    runs, entries = [make_baseline_run(folder)], list[SweepEntry]()
    for number, (cls, loc) in enumerate(itertools.product((0.0, 1.0, 2.0), (1.0, 4.0))):
        values, best = {CLS: cls, LOC: loc}, 0.36 - 0.01 * abs(cls - 1)
        metrics = {Metric.MAP.value: best, Metric.INFERENCE_IMAGES_PER_S.value: 50.0 + number % 4}
        runs.append(
            make_distilled_run(
                folder, number=number + 1, trial=number, values=values, best_map=best
            )
        )
        entries.append(TrialSuggested(number=number, values=values))
        entries.append(TrialEnded(number=number, result="finished", epoch=12, values=metrics))
    space = {
        CLS: Choice(values=(0.0, 1.0, 2.0), when={}),
        LOC: Choice(values=(1.0, 4.0), when={}),
    }
    objectives = (Objective(), Objective(metric=Metric.INFERENCE_IMAGES_PER_S))
    sweep = make_sweep_spec(space=space, scheduler=NoScheduler(), objectives=objectives)
    return make_run_inputs(
        folder, runs=tuple(runs), entries=tuple(entries), sweep=sweep, sweep_id=SWEEP
    )


def make_run_without_measurements(folder: Path) -> ReportRun:
    return make_distilled_run(
        folder,
        number=1,
        baseline=None,
        curve=(),
        losses=(),
        teacher={},
        execution=RunExecution(),
        mlflow_url=None,
    )


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> ReportContent:
    """The report of a run."""
    inputs = make_run_inputs(tmp_path_factory.mktemp("run"), preset="quick/instant_bckd")
    create_detection_files(inputs)
    return build_content(inputs, make_run_report(), photos=Photos((), ()), dataset=make_manifest())


@pytest.fixture(scope="module")
def sweep_content(tmp_path_factory: pytest.TempPathFactory) -> ReportContent:
    inputs = make_sweep_inputs(tmp_path_factory.mktemp("sweep"))
    create_detection_files(inputs)
    return build_content(
        inputs, make_sweep_report(inputs), photos=Photos((), ()), dataset=make_manifest()
    )


def test_a_run_has_all_sections(content: ReportContent) -> None:
    page = render_page(content)

    assert Outline(page).sections == EVERY_RUN
    assert "Distillation helps" in page


def test_a_sweep_of_twelve_trials_has_every_section_with_something_in_it(
    sweep_content: ReportContent,
) -> None:
    page = render_page(sweep_content)

    assert Outline(page).sections == [EVERY_RUN[0], *OF_SWEEPS, *EVERY_RUN[1:]]
    text = plain_text(page)
    assert "Trials 0, 4, 5, 6, 9 and 10 are not told apart" in text
    assert text.count(" not told apart ") >= 6
    assert "stopped 2 of 12 trials: 120 epochs were trained instead of 144" in text
    assert "about 16 min of steps" in text
    assert "This sweep has 1 objective, not two." in text
    assert 50_000 < len(page) < 600_000


def test_a_grid_is_a_heat_map_and_two_objectives_have_a_front(tmp_path: Path) -> None:
    inputs = make_grid_sweep(tmp_path)

    page = render(inputs, make_sweep_report(inputs))

    assert "Outlined cells are not told apart from the best." in page
    assert "On the line no other trial is better in both objectives" in page
    assert "This sweep has no scheduler" in page


def test_a_page_needs_no_network_and_runs_no_script(sweep_content: ReportContent) -> None:
    outline = Outline(render_page(sweep_content))

    assert not {"script", "link", "iframe", "object"} & set(outline.tags)
    allowed = (
        "#",
        "data:image/jpeg;base64,",
        "http://tandem.example:8000/docs",
        "http://mlflow.example",
    )
    assert all(address.startswith(allowed) for address in outline.addresses)


def test_names_are_escaped(tmp_path: Path) -> None:
    run = make_distilled_run(tmp_path, number=1, name=EVIL, mlflow_url="javascript:x")
    inputs = make_run_inputs(
        tmp_path, title=EVIL, runs=(make_baseline_run(tmp_path, name=EVIL), run)
    )
    transfer = make_transfer(images=[make_missed_image(EVIL)])
    transfer = transfer.model_copy(
        update={"by_class": {EVIL: TeacherStudent(teacher=0.5, student=0.4)}}
    )
    report = make_run_report(
        title=EVIL, comparisons=(make_comparison(basis=EVIL),), transfer=transfer
    )

    page = render(
        inputs,
        report,
        photos=Photos((), (EVIL,)),
        dataset=EVIL_DATASET,
    )

    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "script" not in Outline(page).tags


def test_only_http_urls_become_links(tmp_path: Path) -> None:
    inputs = make_run_inputs(
        tmp_path, service_url="javascript:alert(1)//", mlflow_url="data:text/html,x"
    )

    page = render(inputs, make_run_report(comparisons=(), transfer=None))

    assert "javascript:" not in page
    assert "text/html" not in page


def test_links_lead_to_pages_and_not_to_answers_of_the_api(content: ReportContent) -> None:
    addresses = Outline(render_page(content)).addresses

    assert {f"http://mlflow.example:5000/#/runs/{number}" for number in (0, 1)} <= set(addresses)
    assert "http://tandem.example:8000/docs" in addresses
    assert not any("/v1/" in address for address in addresses)


def test_an_empty_report_says_why_in_every_section(tmp_path: Path) -> None:
    inputs = make_run_inputs(
        tmp_path,
        runs=(make_run_without_measurements(tmp_path),),
        sweep=make_sweep_spec(scheduler=NoScheduler()),
        sweep_id=SWEEP,
        service_url=None,
        mlflow_url=None,
        noise=None,
    )
    report = make_run_report(comparisons=(), transfer=None, noise=None)

    page = render(inputs, report)

    assert page.count('class="placeholder"') == 14
    assert page.count("<svg") == 0


def test_runs_that_were_not_compared_say_why(tmp_path: Path) -> None:
    runs = (
        make_baseline_run(tmp_path),
        make_distilled_run(tmp_path, number=1),
        make_distilled_run(tmp_path, number=2, baseline=None),
        make_distilled_run(tmp_path, number=3, result="stopped"),
        make_distilled_run(tmp_path, number=4, baseline="r" + "9" * 12),
    )
    inputs = make_run_inputs(tmp_path, runs=runs)
    create_detection_files(make_run_inputs(tmp_path, runs=(runs[2], runs[4])))

    text = plain_text(render(inputs, make_run_report(comparisons=(), transfer=None)))

    assert text.count("no: its detections are missing") == 2
    assert "no: it has no baseline" in text
    assert "no: stopped" in text
    assert "no: its baseline has not finished, or its detections are missing" in text


def test_images_are_inlined_and_missing_ones_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000), "navy").save(tmp_path / "one.jpg")
    images: list[MissedImage] = [make_missed_image("one.jpg"), make_missed_image("gone.jpg")]
    transfer = Transfer(
        run=make_run_id(1), by_class={}, by_size={}, by_iou={}, errors={}, images=tuple(images)
    )
    report = make_run_report(comparisons=(), transfer=transfer)

    page = render(make_run_inputs(tmp_path), report, photos=draw_photos(images, folder=tmp_path))

    assert page.count("data:image/jpeg;base64,") == 1
    assert "one.jpg: 2 objects missed: “person” 2 times" in page
    assert "Images that could not be read: gone.jpg." in page


def test_pictures_use_the_css_colors_of_the_page(content: ReportContent) -> None:
    page = render_page(content)

    assert "#0102" not in page
    assert "stroke: var(--student)" in page
    assert "@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1;" in page


def test_every_picture_is_drawn_for_wide_and_for_narrow_pages(
    content: ReportContent, sweep_content: ReportContent
) -> None:
    for picture in [*find_blocks(content, Picture), *find_blocks(sweep_content, Picture)]:
        wide, narrow = view_box(picture.svg), view_box(picture.narrow_svg)

        assert wide == pytest.approx((604.8, wide[1]))
        assert narrow == pytest.approx((331.2, narrow[1]))
        assert narrow[1] >= 50
        assert not set(ids(picture.svg)) & set(ids(picture.narrow_svg))


def test_nothing_on_a_page_is_wider_than_a_phone(content: ReportContent) -> None:
    page = render_page(content)

    svg_tags = re.findall(r"<svg[^>]*>", page)
    assert svg_tags
    assert all("viewBox=" in tag and not re.search(r"\s(width|height)=", tag) for tag in svg_tags)
    min_widths = re.findall(r"min-width: ([\d.]+)rem", re.sub(r"@media.*", "", page))
    assert all(float(width) * PIXELS_PER_REM <= PHONE_WIDTH for width in min_widths)
    assert all("min(" in width for width in re.findall(r"minmax\(([^0][^;]*);", page))
    assert page.count("<table") == page.count('<div class="scroll"><table')


@pytest.mark.parametrize(
    ("columns", "rows", "layout"), [(5, 100, "fits"), (6, 8, "stacked"), (6, 9, "scrolls")]
)
def test_wide_tables_are_stacked_or_scroll_on_a_phone(columns: int, rows: int, layout: str) -> None:
    table = Table((Column("a"),) * columns, (Row((Cell("1"),) * columns),) * rows)

    assert table.narrow_layout == layout


def test_no_cell_is_blank(content: ReportContent, sweep_content: ReportContent) -> None:
    tables = [*find_blocks(content, Table), *find_blocks(sweep_content, Table)]

    assert len(tables) >= 10
    for table in tables:
        for row in table.rows:
            assert len(row.cells) == len(table.columns)
            assert all(cell.text.strip() for cell in row.cells), row


def test_map_is_on_one_scale(content: ReportContent, sweep_content: ReportContent) -> None:
    for page in map(render_page, (content, sweep_content)):
        text = html.unescape(plain_text(re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)))

        assert not re.search(r"\b0\.\d{2,} mAP", text)
        assert "-1.0 mAP" not in text
        assert "mAP is COCO's AP over IoU 0.50 to 0.95, in points from 0 to 100" in html.unescape(
            text
        )


def find_blocks(content: ReportContent, kind: type[BlockT]) -> list[BlockT]:
    return [
        block for section in content.sections for block in section.blocks if isinstance(block, kind)
    ]


def view_box(svg: str) -> tuple[float, float]:
    """Width and height of an SVG's view box."""
    match = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert match is not None
    return float(match.group(1)), float(match.group(2))


def ids(svg: str) -> list[str]:
    return re.findall(r' id="([^"]+)"', svg)
