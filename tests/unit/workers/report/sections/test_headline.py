"""The headline of a report: the answer in one sentence."""

from pathlib import Path

import pytest

from configs.protocol.comparison import Comparison
from tests.support.workers.report_inputs import (
    make_baseline_run,
    make_comparison,
    make_distilled_run,
    make_run_inputs,
    make_run_report,
    make_sweep_inputs,
    make_sweep_report,
)
from workers.report.sections.headline import build_headline, main_comparison


@pytest.mark.parametrize(
    ("comparison", "sentence", "tone"),
    [
        (
            make_comparison(gain=0.023, half_width=0.012),
            "Distillation helps: +2.3 mAP [+1.1, +3.5] with one seed and the known noise floor; "
            "closes 41 % of the gap to its teacher.",
            "good",
        ),
        (
            make_comparison(gain=0.06, half_width=0.01),
            "Distillation helps: +6.0 mAP [+5.0, +7.0] with one seed and the known noise floor; "
            "the student reaches its teacher.",
            "good",
        ),
        (
            make_comparison(gain=0.023, half_width=0.012, gap_closed=None),
            "Distillation helps: +2.3 mAP [+1.1, +3.5] with one seed and the known noise floor.",
            "good",
        ),
        (
            make_comparison(gain=-0.012, half_width=0.008),
            "Distillation hurts: -1.2 mAP [-2.0, -0.4] with one seed and the known noise floor.",
            "bad",
        ),
        (
            make_comparison(gain=0.004, half_width=0.01),
            "Cannot tell whether distillation helps: +0.4 mAP [-0.6, +1.4] with one seed and the "
            "known noise floor.",
            "open",
        ),
        (
            make_comparison(gain=0.004, half_width=None),
            "Cannot tell whether distillation helps: +0.4 mAP (interval unknown) with one seed and "
            "the known noise floor.",
            "open",
        ),
    ],
    ids=["helps", "reaches", "no lead", "hurts", "cannot tell", "no interval"],
)
def test_every_verdict_has_its_sentence(
    tmp_path: Path, comparison: Comparison, sentence: str, tone: str
) -> None:
    report = make_run_report(comparisons=(comparison,))

    headline = build_headline(make_run_inputs(tmp_path), report)

    assert headline.sentence == sentence
    assert headline.tone == tone


def test_one_pair_without_a_noise_floor_says_what_it_takes_to_know(tmp_path: Path) -> None:
    comparison = make_comparison(seed_spread="unknown", verdict="cannot_tell", images=500)
    report = make_run_report(comparisons=(comparison,))

    headline = build_headline(make_run_inputs(tmp_path), report)

    assert headline.sentence == (
        "One pair measured: +2.3 mAP [+1.1, +3.5] on these 500 images for these two models. "
        "Whether distillation helps is not known from one seed: `tandem repeat r000000000001 "
        "--seeds 3` trains more pairs."
    )
    assert headline.tone == "open"


def test_a_headline_says_what_it_rests_on(tmp_path: Path) -> None:
    headline = build_headline(make_run_inputs(tmp_path), make_run_report())

    assert headline.support == (
        "The 5000 validation images were resampled, and the noise floor was added.",
    )


def test_of_a_sweep_it_is_the_best_trials_answer_with_a_warning_and_its_ties(
    tmp_path: Path,
) -> None:
    inputs = make_sweep_inputs(tmp_path)
    report = make_sweep_report(inputs)

    headline = build_headline(inputs, report)

    main = main_comparison(report)
    assert main is not None
    assert main.trial == report.best_trial == 6
    assert "This is trial 6, the best of 9 by these same numbers" in headline.support[1]
    assert headline.support[2].startswith(
        "5 other trials (trials 0, 4, 5, 9 and 10) are not told apart from the best"
    )


def test_where_the_best_trial_has_no_comparison_another_one_answers_and_says_so(
    tmp_path: Path,
) -> None:
    inputs = make_sweep_inputs(tmp_path)
    report = make_sweep_report(inputs)
    other_comparisons = tuple(c for c in report.comparisons if c.trial != report.best_trial)

    headline = build_headline(inputs, report.model_copy(update={"comparisons": other_comparisons}))

    assert headline.support[1].startswith("This is trial 4: the best one, trial 6, cannot")


def test_without_a_comparison_it_says_what_is_missing(tmp_path: Path) -> None:
    only_baseline = make_run_inputs(tmp_path, runs=(make_baseline_run(tmp_path),))
    unpaired = make_run_inputs(
        tmp_path, runs=(make_distilled_run(tmp_path, number=1, baseline=None),)
    )
    unfinished = make_run_inputs(tmp_path)
    report = make_run_report(comparisons=())

    sentences = [build_headline(d, report).sentence for d in (only_baseline, unpaired, unfinished)]

    assert [sentence.partition(": ")[2] for sentence in sentences] == [
        "no run of this report is distilled.",
        "no distilled run has a baseline.",
        "there is no pair of a distilled run and its baseline that have both finished and kept "
        "their detections.",
    ]
