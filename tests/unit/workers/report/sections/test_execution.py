"""Time, speed and device of the runs."""

from datetime import timedelta
from pathlib import Path

from configs.protocol.report import RunExecution
from tests.support.workers.report_inputs import (
    AT,
    make_baseline_run,
    make_distilled_run,
    make_execution,
    make_run_inputs,
)
from workers.report.blocks import Paragraph, Placeholder, Table
from workers.report.sections.execution import execution_section


def test_every_run_has_its_time_speed_and_device(tmp_path: Path) -> None:
    baseline = make_execution(started_at=AT, finished_at=AT + timedelta(seconds=90))
    distilled = make_execution(
        started_at=AT + timedelta(seconds=30),
        finished_at=AT + timedelta(seconds=300),
        device="cuda:0",
        processes=2,
        attempts=3,
        images_per_s=123.4,
        inference_images_per_s=None,
    )
    runs = (
        make_baseline_run(tmp_path, execution=baseline),
        make_distilled_run(tmp_path, number=1, execution=distilled),
    )

    paragraph, table = execution_section(make_run_inputs(tmp_path, runs=runs)).blocks

    assert isinstance(paragraph, Paragraph)
    assert paragraph.text.startswith("2 runs took 5 min 00 s from the first start to the last end.")
    assert "take turns" not in paragraph.text
    assert isinstance(table, Table)
    assert [[cell.text for cell in row.cells[2:]] for row in table.rows] == [
        ["1 min 30 s", "31.4", "120", "CPU, 1 core", "1"],
        ["4 min 30 s", "123", "\N{EN DASH}", "2 processes, each GPU", "3"],
    ]


def test_runs_of_one_process_say_that_they_share_it(tmp_path: Path) -> None:
    runs = (make_baseline_run(tmp_path, execution=make_execution(pack_size=2)),)

    paragraph, table = execution_section(make_run_inputs(tmp_path, runs=runs)).blocks

    assert isinstance(paragraph, Paragraph)
    assert "take turns" in paragraph.text
    assert isinstance(table, Table)
    assert table.rows[0].cells[5].text == "CPU, 1 core, shared by 2 runs"


def test_without_a_finished_run_it_says_so(tmp_path: Path) -> None:
    runs = (make_baseline_run(tmp_path, execution=RunExecution(started_at=AT)),)

    blocks = execution_section(make_run_inputs(tmp_path, runs=runs)).blocks

    assert blocks == (Placeholder("No run has measured its time."),)
