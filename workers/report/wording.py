"""Formatting of numbers and names, the same on all pages."""

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from configs.metric_keys import Metric
from configs.protocol.comparison import Comparison, Difference, Verdict
from configs.spec.active_methods import iter_methods
from configs.spec.installed_methods import InstalledMethod
from configs.spec.references import RunTeacher, TeacherFiles
from configs.spec.run import RunSpec
from configs.spec.search import Scalar

MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
"""Stands for a value that does not exist."""

_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
PRIMARY_PART = "bbox_mAP"
"""The part of mAP that verdicts are based on."""

PART_TITLES = {
    "bbox_mAP": "mAP",
    "bbox_mAP_50": "AP at IoU 0.50",
    "bbox_mAP_75": "AP at IoU 0.75",
    "bbox_mAP_s": "small objects",
    "bbox_mAP_m": "medium objects",
    "bbox_mAP_l": "large objects",
}
_VERDICTS: dict[Verdict, str] = {
    "helps": "helps",
    "hurts": "hurts",
    "cannot_tell": "cannot tell",
}
_MINUTE_S, _HOUR_S = 60, 3600
_PRECISE_S = 600
"""Shorter durations are formatted with their seconds."""


def format_points(value: float | None) -> str:
    """Format mAP from 0 to 100 with one decimal, as in papers.

    COCO's -1, where there are no such objects, is no value.
    """
    return MISSING if value is None or value < 0 else _drop_zero_sign(f"{100.0 * value:.1f}")


def format_gain(value: float) -> str:
    """Format a difference of mAP in points with its sign."""
    return _drop_zero_sign(f"{100.0 * value:+.1f}")


def format_interval(difference: Difference, *, may_wrap: bool = False) -> str:
    """Format the 95 % interval of a difference in points, as in `[+1.1, +3.5]`."""
    if difference.low is None or difference.high is None:
        return MISSING
    space = " " if may_wrap else _NO_BREAK_SPACE
    return f"[{format_gain(difference.low)},{space}{format_gain(difference.high)}]"


def format_verdict(comparison: Comparison) -> str:
    """Format the verdict for a table; one pair without a noise floor has none."""
    if comparison.seed_spread == "unknown":
        return "unknown: one seed"
    return _VERDICTS[comparison.verdict]


def format_optional(value: object | None) -> str:
    """Format a value as text; a dash if there is none."""
    return MISSING if value is None else str(value)


def format_percent(share: float) -> str:
    """Format a share of 1 in whole percent."""
    return f"{round(100.0 * share)}{_NO_BREAK_SPACE}%".replace("-", MINUS)


def format_scalar(value: Scalar) -> str:
    """Format a parameter's value; floats with three significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}".replace("-", MINUS) if isinstance(value, float) else str(value)


def format_metric(metric: str, value: float) -> str:
    """Format a value of a metric: AP in points, others with four significant digits."""
    return format_points(value) if is_ap(metric) else f"{value:.4g}".replace("-", MINUS)


def is_ap(metric: str) -> bool:
    """Whether a metric is an average precision from 0 to 1."""
    return "mAP" in metric


def metric_title(metric: str) -> str:
    """Display name of a metric."""
    if metric == Metric.MAP:
        return "mAP"
    if metric == Metric.INFERENCE_IMAGES_PER_S:
        return "images/s"
    return PART_TITLES.get(metric.removeprefix("val/"), metric)


def format_duration(seconds: float | None) -> str:
    """Format a duration, as in `42 s`, `4 min 05 s` or `3 h 12 min`."""
    if seconds is None:
        return MISSING
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _PRECISE_S:
        minutes, rest_s = divmod(round(seconds), _MINUTE_S)
        return f"{minutes} min {rest_s:02d} s"
    minutes = round(seconds / _MINUTE_S)
    hours, remainder = divmod(minutes, _HOUR_S // _MINUTE_S)
    return f"{hours} h {remainder:02d} min" if hours else f"{minutes} min"


def format_speed(images_per_s: float | None) -> str:
    """Format a number of images per second with about three digits."""
    if images_per_s is None:
        return MISSING
    return f"{images_per_s:.1f}" if images_per_s < 100 else f"{images_per_s:.0f}"


def format_count(number: int, noun: str, *, plural: str | None = None) -> str:
    """Format a count with its noun, as in `1 trial`, `3 trials`; `plural` is `<noun>s` if None."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def join_items(items: Iterable[object], *, conjunction: str = "and") -> str:
    """Join items as in `3, 5 and 8`."""
    *other_items, last_item = [str(item) for item in items]
    return f"{', '.join(other_items)} {conjunction} {last_item}" if other_items else last_item


def shorten_paths(paths: Sequence[str]) -> dict[str, str]:
    """Shorten dotted paths to their last part, unless two of them end alike."""
    lasts = [path.rsplit(".", 1)[-1] for path in paths]
    return {
        path: last_part if lasts.count(last_part) == 1 else path
        for path, last_part in zip(paths, lasts, strict=True)
    }


def student_title(spec: RunSpec) -> str:
    """Display name of the student."""
    return spec.student.title


def teacher_title(spec: RunSpec) -> str:
    """Display name of the teacher, with the kind of a control."""
    teacher = spec.teacher
    if teacher is None:
        return "none"
    if spec.control is not None:
        return f"{spec.control}: {teacher_title(spec.model_copy(update={'control': None}))}"
    if isinstance(teacher, TeacherFiles):
        return teacher.detector.title
    return f"run {teacher.run}" if isinstance(teacher, RunTeacher) else teacher.name


def method_title(spec: RunSpec) -> str:
    """Names of the active methods, as in `BCKD + PKD`."""
    names = [
        method.name if isinstance(method, InstalledMethod) else method.traits.title
        for method in iter_methods(spec.distillation)
    ]
    return " + ".join(names) or "none"


def schedule_title(spec: RunSpec) -> str:
    """Epochs, with the papers' names 1x, 2x and 3x for 12, 24 and 36 of them."""
    epochs = spec.schedule.epochs
    name = {12: "1x", 24: "2x", 36: "3x"}.get(epochs)
    return f"{format_count(epochs, 'epoch')}{f' ({name})' if name else ''}"


def seeds_title(comparison: Comparison) -> str:
    """Number of seeds of a comparison."""
    return format_count(len(comparison.runs), "seed")


def safe_url(url: str | None) -> str | None:
    """Return the URL if it is http or https, else None."""
    if url is None or urlsplit(url).scheme not in ("http", "https"):
        return None
    return url.rstrip("/")


def _drop_zero_sign(text: str) -> str:
    """Drop the sign of a value that is rounded to zero."""
    return "0.0" if float(text) == 0.0 else text.replace("-", MINUS)
