"""The answer in one sentence: whether distillation helped, by how much, and the evidence."""

from collections.abc import Iterator

from configs.conclusions import conclude
from configs.protocol.comparison import Comparison, Verdict
from configs.protocol.report import Report, ReportInputs
from workers.report.blocks import Headline, Tone
from workers.report.wording import PRIMARY_PART, format_count, format_points, join_items

VERDICT_TONES: dict[Verdict, Tone] = {"helps": "good", "hurts": "bad", "cannot_tell": "open"}


def main_comparison(report: Report) -> Comparison | None:
    """The comparison of the best trial, or the one with the largest gain if that has none; one of
    controls only if there is nothing else."""
    for comparison in report.comparisons:
        if comparison.trial is not None and comparison.trial == report.best_trial:
            return comparison
    taught = [comparison for comparison in report.comparisons if comparison.control is None]
    return max(taught or report.comparisons, key=_gain, default=None)


def build_headline(inputs: ReportInputs, report: Report) -> Headline:
    """Build the headline at the top of the page."""
    main = main_comparison(report)
    if main is None:
        return Headline(_explain_no_answer(inputs), tuple(_describe_best(report)), "open")
    support = (
        _sentence(main.basis),
        *_explain_selection(main, report),
        *_describe_ties(report),
    )
    return Headline(conclude(main), support, VERDICT_TONES[main.verdict])


def _explain_selection(main: Comparison, report: Report) -> Iterator[str]:
    other_comparisons = [c for c in report.comparisons if c is not main]
    if main.trial is None or not other_comparisons:
        return
    if main.trial == report.best_trial:
        yield (
            f"This is trial {main.trial}, the best of {len(report.comparisons)} by these same "
            "numbers, so its gain is likely overestimated: repeat it with another seed."
        )
        return
    yield (
        f"This is trial {main.trial}: the best one, trial {report.best_trial}, cannot be compared, "
        "because its detections or those of its baseline are missing."
    )


def _describe_ties(report: Report) -> Iterator[str]:
    tied = report.tied_with_best
    if not tied or report.noise is None:
        return
    noun = "trial" if len(tied) == 1 else "trials"
    verb = "is" if len(tied) == 1 else "are"
    yield (
        f"{format_count(len(tied), 'other trial')} ({noun} {join_items(tied)}) {verb} not told "
        "apart from the best: runs that differ only in their seed differ by up to "
        f"{format_points(report.noise.floor)} mAP."
    )


def _describe_best(report: Report) -> Iterator[str]:
    if report.best_trial is not None:
        yield f"The best trial is {report.best_trial}."


def _explain_no_answer(inputs: ReportInputs) -> str:
    distilled = [run for run in inputs.runs if run.role != "baseline"]
    if not distilled:
        return "There is nothing to compare: no run of this report is distilled."
    if all(run.baseline is None for run in distilled):
        return "There is nothing to compare: no distilled run has a baseline."
    return (
        "There is nothing to compare: there is no pair of a distilled run and its baseline that "
        "have both finished and kept their detections."
    )


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _gain(comparison: Comparison) -> float:
    return comparison.parts[PRIMARY_PART].difference
