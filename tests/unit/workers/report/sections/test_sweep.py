"""The sections of a sweep: order of trials, noise floor, placeholders."""

from pathlib import Path

import pytest

from configs.metric_keys import Metric
from configs.protocol.report import Report, ReportInputs
from configs.protocol.sweep_log import SweepEntry, TrialEnded, TrialSuggested
from configs.spec.sweep import Objective
from tests.support.workers.report_inputs import (
    CLS,
    NOISE,
    SWEEP,
    make_distilled_run,
    make_run_inputs,
    make_run_report,
    make_sweep_inputs,
    make_sweep_report,
    make_sweep_spec,
)
from workers.report.blocks import Paragraph, Placeholder, Section, Table
from workers.report.sections.sweep import build_search_results, sweep_sections


def get_section(key: str, inputs: ReportInputs, report: Report) -> Section:
    return next(candidate for candidate in sweep_sections(inputs, report) if candidate.key == key)


def paragraph_text(section: Section) -> str:
    texts = [b.text if isinstance(b, Paragraph) else b.reason for b in section.blocks
             if isinstance(b, Paragraph | Placeholder)]  # fmt: skip
    return " ".join(texts)


def read_standings(section: Section) -> dict[str, str]:
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    return {row.cells[0].text: row.cells[1].text for row in table.rows}


def make_small_sweep(folder: Path, *maps: float, seeds: int = 1) -> ReportInputs:
    entries, runs = list[SweepEntry](), []
    for number, best in enumerate(maps):
        values = {CLS: 1.0 + number}
        entries.append(TrialSuggested(number=number, values=values))
        standing = {Metric.MAP.value: best}
        entries.append(TrialEnded(number=number, result="finished", epoch=12, values=standing))
        for seed in range(seeds):
            run_number = 100 * number + seed
            runs.append(
                make_distilled_run(
                    folder, number=run_number, trial=number, values=values, seed=seed
                )
            )
    return make_run_inputs(
        folder, runs=tuple(runs), entries=tuple(entries), sweep=make_sweep_spec(), sweep_id=SWEEP
    )


def test_trials_within_the_floor_of_the_best_come_first_and_in_no_order(tmp_path: Path) -> None:
    inputs = make_sweep_inputs(tmp_path)

    standing = read_standings(get_section("trials", inputs, make_sweep_report(inputs)))

    assert list(standing)[:6] == ["0", "4", "5", "6", "9", "10"]
    assert {standing[number] for number in ("0", "4", "5", "6", "9", "10")} == {"not told apart"}
    assert [float(standing[n].replace("\N{MINUS SIGN}", "-")) for n in ("8", "2", "1")] == [
        -1.2,
        -1.6,
        -2.2,
    ]
    assert {standing[number] for number in ("3", "7", "11")} == {"\N{EN DASH}"}


def test_a_trial_beyond_the_floor_of_all_others_is_ahead(tmp_path: Path) -> None:
    inputs = make_small_sweep(tmp_path, 0.34, 0.37)

    section = get_section("trials", inputs, make_run_report(best_trial=1))

    assert (
        "Trial 1 is ahead of every other one by more than the noise floor of 1.1"
        in paragraph_text(section)
    )
    assert read_standings(section)["1"] == "ahead"


def test_without_a_floor_the_order_is_called_one_of_numbers(tmp_path: Path) -> None:
    inputs = make_small_sweep(tmp_path, 0.34, 0.37)

    section = get_section("trials", inputs, make_run_report(best_trial=1, noise=None))

    assert "an order of numbers, not of quality" in paragraph_text(section)
    assert read_standings(section)["1"] == "first by its number"


def test_a_single_finished_trial_is_ahead_of_nothing(tmp_path: Path) -> None:
    inputs = make_small_sweep(tmp_path, 0.34)

    section = get_section("trials", inputs, make_run_report(best_trial=0))

    assert paragraph_text(section) == "Only trial 0 has trained to its end, so nothing is compared."


@pytest.mark.parametrize(("seeds", "floor"), [(1, 1.14), (4, 0.57)])
def test_the_floor_that_is_shown_is_that_of_means(tmp_path: Path, seeds: int, floor: float) -> None:
    inputs = make_small_sweep(tmp_path, 0.34, 0.37, seeds=seeds)

    search = build_search_results(inputs, make_run_report(best_trial=1, noise=NOISE))

    assert search.floor == pytest.approx(floor)


def test_another_metric_has_no_floor(tmp_path: Path) -> None:
    sweep = make_sweep_spec(objectives=(Objective(metric=Metric.MAP_50),))
    entries = tuple(
        TrialEnded(
            number=n, result="finished", epoch=12, values={Metric.MAP_50.value: 0.5 + n / 50}
        )
        for n in range(2)
    )
    inputs = make_small_sweep(tmp_path, 0.3, 0.3).model_copy(
        update={"sweep": sweep, "entries": entries}
    )

    section = get_section("trials", inputs, make_run_report(best_trial=1))

    assert paragraph_text(section).startswith(
        "Ordered by AP at IoU 0.50. The noise floor is one of mAP"
    )


def test_a_space_without_both_weights_has_no_map_of_them(tmp_path: Path) -> None:
    inputs = make_small_sweep(tmp_path, 0.34, 0.37)
    sweep = make_sweep_spec(space={CLS: make_sweep_spec().space[CLS]})

    section = get_section(
        "weights", inputs.model_copy(update={"sweep": sweep}), make_run_report(best_trial=1)
    )

    assert paragraph_text(section) == "This sweep does not vary both weights of BCKD."


def test_equal_numbers_everywhere_are_drawn_too(tmp_path: Path) -> None:
    inputs = make_small_sweep(tmp_path, 0.34, 0.34, 0.34, 0.34)

    section = get_section(
        "parameters", inputs, make_run_report(best_trial=0, tied_with_best=(1, 2, 3))
    )

    assert not any(isinstance(block, Placeholder) for block in section.blocks)
