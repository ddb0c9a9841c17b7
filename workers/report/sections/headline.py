"""The answer in one sentence: did distillation help, by how much, and what that rests on."""

from collections.abc import Iterator

from configs.conclusions import conclude
from configs.protocol.report import Comparison, Report, ReportInputs, Verdict
from workers.report.blocks import Headline, Tone
from workers.report.wording import PRIMARY_PART, format_count, format_points, join_words

VERDICT_TONES: dict[Verdict, Tone] = {"helps": "good", "hurts": "bad", "cannot_tell": "open"}


def main_comparison(report: Report) -> Comparison | None:
    """Of the best trial; where that has none, the one with the largest gain."""
    for comparison in report.comparisons:
        if comparison.trial is not None and comparison.trial == report.best_trial:
            return comparison
    return max(report.comparisons, key=_gain, default=None)


def build_headline(dossier: ReportInputs, report: Report) -> Headline:
    """What stands on top of the page."""
    main = main_comparison(report)
    if main is None:
        return Headline(_why_no_answer(dossier), tuple(_best_alone(report)), "open")
    support = (
        _sentence(main.basis),
        *_best_of_many(main, report),
        *_ties(report),
    )
    return Headline(conclude(main), support, VERDICT_TONES[main.verdict])


def _best_of_many(main: Comparison, report: Report) -> Iterator[str]:
    others = [c for c in report.comparisons if c is not main]
    if main.trial is None or not others:
        return
    if main.trial == report.best_trial:
        yield (
            f"This is trial {main.trial}, the best of {len(report.comparisons)} by these same "
            "numbers, which flatters it a little: a run of it with another seed tells more."
        )
        return
    yield (
        f"This is trial {main.trial}: the best one, trial {report.best_trial}, cannot be compared, "
        "because its detections or its twin's are missing."
    )


def _ties(report: Report) -> Iterator[str]:
    tied = report.tied_with_best
    if not tied or report.noise is None:
        return
    noun = "trial" if len(tied) == 1 else "trials"
    verb = "is" if len(tied) == 1 else "are"
    yield (
        f"{format_count(len(tied), 'other trial')} ({noun} {join_words(tied)}) {verb} not told apart from "
        f"the best: one run differs from another by up to {format_points(report.noise.floor)} mAP by its "
        "seed alone."
    )


def _best_alone(report: Report) -> Iterator[str]:
    if report.best_trial is not None:
        yield f"The best trial is {report.best_trial}."


def _why_no_answer(dossier: ReportInputs) -> str:
    distilled = [run for run in dossier.runs if run.role == "distilled"]
    if not distilled:
        return "There is nothing to compare: no run of this report is distilled."
    if all(run.baseline is None for run in distilled):
        return "There is nothing to compare: no distilled run has a twin without a teacher."
    return (
        "There is nothing to compare: no distilled run and its twin have both trained to the end "
        "and kept their detections."
    )


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _gain(comparison: Comparison) -> float:
    return comparison.parts[PRIMARY_PART].difference
