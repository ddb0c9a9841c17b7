"""Sentences for the result of a comparison, shared by the service and the workers."""

from configs.protocol.comparison import MAP_PARTS, Comparison, Difference
from configs.spec.base import TeacherControl

RECOMMENDED_SEEDS = 3
"""Number of seeds to recommend where a single pair allows no conclusion."""


_SUBJECTS: dict[TeacherControl | None, str] = {
    None: "distillation",
    "random_teacher": "distillation from an untrained teacher",
    "shuffled_teacher": "distillation from outputs of other images",
}


def conclude(comparison: Comparison) -> str:
    """The conclusion of a comparison in one sentence. Raises `KeyError` if mAP was not compared.

    The API, the shell, reports and MLflow's tag all show the same sentence. mAP is in points of
    100, in ASCII, so that people can search for it.
    """
    gain = format_gain(comparison.parts[MAP_PARTS[0]])
    if comparison.seed_spread == "unknown":
        return _conclude_from_one_pair(comparison, gain)
    seeds, subject = len(comparison.runs), _SUBJECTS[comparison.control]
    support = f" over {seeds} seeds" if seeds > 1 else " with one seed and the known noise floor"
    if comparison.verdict == "helps":
        closed = _format_gap_closed(comparison.gap_closed)
        return f"{subject.capitalize()} helps: {gain}{support}{closed}."
    if comparison.verdict == "hurts":
        return f"{subject.capitalize()} hurts: {gain}{support}."
    return f"Cannot tell whether {subject} helps: {gain}{support}."


def format_gain(difference: Difference) -> str:
    """The difference with its interval, as in `+2.3 mAP [+1.1, +3.5]`."""
    interval = "(interval unknown)"
    if difference.low is not None and difference.high is not None:
        interval = f"[{format_points(difference.low)}, {format_points(difference.high)}]"
    return f"{format_points(difference.difference)} mAP {interval}"


def format_points(difference: float) -> str:
    """A difference in mAP, in points of 100, with its sign unless it rounds to zero."""
    text = f"{100.0 * difference:+.1f}"
    return "0.0" if float(text) == 0.0 else text


def _conclude_from_one_pair(comparison: Comparison, gain: str) -> str:
    images = "these images" if comparison.images is None else f"these {comparison.images} images"
    return (
        f"One pair measured: {gain} on {images} for these two models. Whether "
        f"{_SUBJECTS[comparison.control]} helps is not known from one seed: `tandem repeat "
        f"{comparison.runs[0]} --seeds {RECOMMENDED_SEEDS}` trains more pairs."
    )


def _format_gap_closed(closed: float | None) -> str:
    if closed is None:
        return ""
    if closed >= 1.0:
        return "; the student reaches its teacher"
    return f"; closes {round(100.0 * closed)} % of the gap to its teacher"
