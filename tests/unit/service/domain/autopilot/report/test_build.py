"""The report of an autopilot: complete, and equal to its history."""

from xml.etree import ElementTree

import pytest

from configs.conclusions import format_points
from service.domain.autopilot.budget import measure_stage_costs
from service.domain.autopilot.history import (
    AutopilotHistory,
    BudgetExtension,
    Conclusion,
    RunLaunch,
    RunOutcome,
    RunStop,
    StageEnd,
)
from service.domain.autopilot.report.build import build_autopilot_report
from service.domain.autopilot.report.facts import ReportFacts
from service.domain.autopilot.report.front import find_front
from service.domain.autopilot.report.markdown import to_markdown
from service.domain.autopilot.report.page import (
    AutopilotReport,
    MeasuredModel,
    PageSection,
    PageTable,
    format_seconds,
)
from service.domain.autopilot.report.web_page import to_web_page
from service.domain.autopilot.request import AutopilotRequest
from tests.support.autopilot.reports import NOON, SENTENCE, make_autopilot, make_facts
from tests.support.autopilot.trainer import SimulatedTrainer, run_autopilot
from tests.support.autopilot.worlds import draw_world, make_request, run_cost_s


@pytest.fixture(scope="module")
def request_() -> AutopilotRequest:
    return make_request(budget_s=61 * run_cost_s())


@pytest.fixture(scope="module")
def history(request_: AutopilotRequest) -> AutopilotHistory:
    return run_autopilot(SimulatedTrainer(draw_world(1), request_))


@pytest.fixture(scope="module")
def report(request_: AutopilotRequest, history: AutopilotHistory) -> AutopilotReport:
    return build_autopilot_report(make_autopilot(request_, history), history, make_facts(history))


def section_of(report: AutopilotReport, title: str) -> PageSection:
    return next(section for section in report.sections if section.title == title)


def rows_of(report: AutopilotReport, title: str) -> tuple[tuple[str, ...], ...]:
    tables = [b for b in section_of(report, title).blocks if isinstance(b, PageTable)]
    assert len(tables) == 1
    return tables[0].rows


def text_of(report: AutopilotReport, title: str) -> str:
    blocks = section_of(report, title).blocks
    return " ".join(block.text for block in blocks if block.kind == "text")


def test_every_arm_is_there_with_all_of_its_seeds_and_its_cost(
    report: AutopilotReport, history: AutopilotHistory
) -> None:
    rows = {(row[0], row[1]): row for row in rows_of(report, "What was tried")}

    launches = [entry for entry in history.entries if isinstance(entry, RunLaunch)]
    for launch in launches:
        row = rows[launch.stage.replace("_", " "), launch.arm.name]
        assert str(launch.seed) in row[2].split(", ")
    spent = {outcome.key: outcome.spent_s for outcome in history.outcomes}
    (teacher,) = [launch for launch in launches if launch.stage == "teacher"]
    assert rows["teacher", "big"][3:] == (
        "55.0",
        "55.0",
        "1 succeeded",
        format_seconds(teacher.planned_s),
        format_seconds(spent[teacher.key]),
        "r000000000000",
    )


def test_a_run_that_was_stopped_has_its_newest_map_with_the_epoch(
    report: AutopilotReport, history: AutopilotHistory
) -> None:
    stop = next(entry for entry in history.entries if isinstance(entry, RunStop))
    launch = next(e for e in history.entries if isinstance(e, RunLaunch) and e.key == stop.key)
    maps = next(outcome.maps for outcome in history.outcomes if outcome.key == stop.key)

    rows = {(row[0], row[1]): row for row in rows_of(report, "What was tried")}

    expected = f"({100 * maps[max(maps)]:.1f} after epoch {max(maps)})"
    assert rows[launch.stage, launch.arm.name][3:6] == ("-", expected, "1 stopped")


def test_all_decisions_are_there_in_order_with_their_reasons(
    report: AutopilotReport, history: AutopilotHistory
) -> None:
    reasons = [row[3] for row in rows_of(report, "What was decided")]

    decided = [e for e in history.entries if isinstance(e, StageEnd | RunStop | Conclusion)]
    assert [reason for reason in reasons if "; seed" not in reason] == [e.message for e in decided]
    assert "wide is left out" in text_of(report, "What was decided")


def test_the_claim_is_that_of_the_conclusion_and_stands_beside_the_runs_report(
    report: AutopilotReport, history: AutopilotHistory
) -> None:
    conclusion = history.entries[-1]
    assert isinstance(conclusion, Conclusion)

    rows = {row[0]: row for row in rows_of(report, "What is claimed")}

    assert rows.keys() == conclusion.gains.keys()
    for arm, gain in conclusion.gains.items():
        assert rows[arm][1:3] == (str(gain.pairs), format_points(gain.mean))
        assert rows[arm][3] == ("-" if gain.low is None else format_points(gain.low))
    assert conclusion.claims_gain
    assert rows[conclusion.arm or ""][4] == "yes"
    assert SENTENCE in text_of(report, "What is claimed")


def test_costs_are_those_of_the_stages(report: AutopilotReport, history: AutopilotHistory) -> None:
    *stages, total = rows_of(report, "What it cost")

    costs = measure_stage_costs(history)
    assert [row[2] for row in stages] == [format_seconds(cost.spent_s) for cost in costs]
    assert total[2] == format_seconds(sum(outcome.spent_s for outcome in history.outcomes))


def test_methods_that_were_not_screened_are_prospects() -> None:
    request = make_request(budget_s=30 * run_cost_s())
    history = run_autopilot(SimulatedTrainer(draw_world(1), request))
    screened = {
        entry.arm.name
        for entry in history.entries
        if isinstance(entry, RunLaunch) and entry.stage == "screening"
    }
    missing = [option.name for option in request.methods if option.name not in screened]

    report = build_autopilot_report(make_autopilot(request, history), history, make_facts(history))

    text = text_of(report, "What more budget might bring")
    assert missing
    assert f"{len(missing)} of 18 methods were not screened: {', '.join(missing)}." in text


def test_an_autopilot_without_a_plan_has_a_report_too() -> None:
    autopilot = make_autopilot(None)
    facts = ReportFacts(at=NOON, run_ids={}, evaluations={})

    text = to_markdown(build_autopilot_report(autopilot, AutopilotHistory(), facts))

    assert "The students are probed; nothing has been trained." in text
    assert "teachers big, resnet50 (to train); students small;" in text
    assert "wide is left out" in text
    assert "The search is not over." in text


def test_a_search_that_goes_on_shows_runs_that_have_not_started(
    request_: AutopilotRequest, history: AutopilotHistory
) -> None:
    launch = history.entries[0]
    assert isinstance(launch, RunLaunch)
    extension = BudgetExtension(budget_s=7200.0)
    running = AutopilotHistory(entries=(launch, extension))
    facts = ReportFacts(at=NOON, run_ids={}, evaluations={})

    report = build_autopilot_report(make_autopilot(request_), running, facts)

    assert rows_of(report, "What was tried")[0][3:6] == ("-", "-", "1 not started")
    assert rows_of(report, "What was decided")[1][1:3] == ("extended by 2.0 h", "budget")


def test_a_run_that_continues_counts_once_with_both_costs(
    request_: AutopilotRequest, history: AutopilotHistory
) -> None:
    launch = history.entries[0]
    assert isinstance(launch, RunLaunch)
    continued = launch.model_copy(update={"key": f"{launch.key}+", "continues": launch.key})
    outcomes = (
        RunOutcome(key=launch.key, state="stopped", spent_s=40.0),
        RunOutcome(key=continued.key, state="succeeded", spent_s=20.0, maps={0: 0.55}),
    )
    both = AutopilotHistory(entries=(launch, continued), outcomes=outcomes)
    facts = ReportFacts(at=NOON, run_ids={launch.key: "r1", continued.key: "r1"}, evaluations={})

    report = build_autopilot_report(make_autopilot(request_), both, facts)

    (row,) = rows_of(report, "What was tried")
    assert row[2:6] == ("0", "55.0", "55.0", "1 succeeded")
    assert row[7:] == ("60 s", "r1")


def model(latency_ms: float, mean_ap: float) -> MeasuredModel:
    return MeasuredModel(
        label=f"{latency_ms:g}",
        latency_ms=latency_ms,
        mean_ap=mean_ap,
        is_on_front=False,
        is_delivered=False,
    )


def test_the_front_has_what_no_other_one_is_better_than_in_both() -> None:
    fast, accurate, worse, equal = model(10, 0.3), model(20, 0.4), model(20, 0.35), model(10, 0.3)

    assert find_front([accurate, worse, fast]) == (fast, accurate)
    assert find_front([fast, equal]) == (fast, equal)
    assert find_front([model(10, 0.3), model(9, 0.3)]) == (model(9, 0.3),)


def test_the_web_page_is_well_formed_and_escapes_names(
    request_: AutopilotRequest, history: AutopilotHistory
) -> None:
    autopilot = make_autopilot(request_, history)
    hostile = autopilot.__class__(**{**vars(autopilot), "name": "<script>alert(1)</script> | *x*"})

    report = build_autopilot_report(hostile, history, make_facts(history))
    page, text = to_web_page(report), to_markdown(report)

    root = ElementTree.fromstring(page)
    assert root.tag == "html"
    assert root.find(".//script") is None
    assert len(root.findall(".//circle")) == len(make_facts(history).evaluations)
    assert "<script>" not in text
    assert r"\| \*x\*" in text


def test_markdown_tables_have_a_cell_for_every_column(report: AutopilotReport) -> None:
    lines = to_markdown(report).splitlines()

    tables = [line.replace(r"\|", "") for line in lines if line.startswith("| ")]
    assert tables
    widths = {
        len(table.columns)
        for s in report.sections
        for table in s.blocks
        if isinstance(table, PageTable)
    }
    assert {line.count("|") - 1 for line in tables} == widths
