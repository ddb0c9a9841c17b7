"""Numbers and names in words, the same on every page."""

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from configs.protocol.names import Metric
from configs.protocol.report import Comparison, Difference, Verdict
from configs.spec.distillation import iter_methods
from configs.spec.run import RunSpec, RunTeacher, TeacherFiles
from configs.spec.search import Scalar

MINUS = "\N{MINUS SIGN}"
_NO_BREAK = "\N{NO-BREAK SPACE}"
PRIMARY_PART = "bbox_mAP"
"""The part that verdicts are about."""

PART_TITLES = {
    "bbox_mAP": "mAP",
    "bbox_mAP_50": "AP at IoU 0.50",
    "bbox_mAP_75": "AP at IoU 0.75",
    "bbox_mAP_s": "small objects",
    "bbox_mAP_m": "medium objects",
    "bbox_mAP_l": "large objects",
}
METHOD_TITLES = {
    "bckd": "BCKD",
    "logit_kd": "logit KD",
    "ld": "LD",
    "fine_grained": "fine-grained",
    "pkd": "PKD",
    "cwd": "CWD",
    "crosskd": "CrossKD",
}
_VERDICTS: dict[Verdict, str] = {
    "helps": "helps",
    "hurts": "hurts",
    "cannot_tell": "cannot tell",
}
_MINUTE_S, _HOUR_S = 60, 3600


def format_points(value: float | None) -> str:
    """mAP in points of 100 with one decimal, as papers print it."""
    return "unknown" if value is None else _unsigned_zero(f"{100.0 * value:.1f}")


def format_gain(value: float) -> str:
    """A difference of mAP in points, with its sign."""
    return _unsigned_zero(f"{100.0 * value:+.1f}")


def format_interval(difference: Difference) -> str:
    """The 95 % interval of a difference in points, as in `[+1.1, +3.5]`."""
    if difference.low is None or difference.high is None:
        return "interval unknown"
    return f"[{format_gain(difference.low)},{_NO_BREAK}{format_gain(difference.high)}]"


def format_verdict(comparison: Comparison) -> str:
    """The verdict as a cell of a table; of one pair without a noise floor there is none."""
    if comparison.seed_spread == "unknown":
        return "not known: one seed"
    return _VERDICTS[comparison.verdict]


def format_percent(share: float) -> str:
    """A share of 1 in whole percent."""
    return f"{round(100.0 * share)}{_NO_BREAK}%".replace("-", MINUS)


def format_scalar(value: Scalar) -> str:
    """A parameter's value, with three digits if it is a number with a point."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}".replace("-", MINUS) if isinstance(value, float) else str(value)


def format_metric(metric: str, value: float) -> str:
    """A value of a metric: AP in points, anything else as it is."""
    return format_points(value) if is_ap(metric) else f"{value:.4g}".replace("-", MINUS)


def is_ap(metric: str) -> bool:
    """Whether a metric is an average precision from 0 to 1."""
    return "mAP" in metric


def metric_title(metric: str) -> str:
    """A metric as people call it."""
    if metric == Metric.MAP:
        return "mAP"
    if metric == Metric.INFERENCE_IMAGES_PER_S:
        return "images/s"
    return PART_TITLES.get(metric.removeprefix("val/"), metric)


def format_duration(seconds: float) -> str:
    """As in `3 h 12 min`."""
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE_S)
    hours, rest = divmod(minutes, _HOUR_S // _MINUTE_S)
    return f"{hours} h {rest:02d} min" if hours else f"{minutes} min"


def format_count(number: int, noun: str) -> str:
    """As in `1 trial`, `3 trials`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def join_words(words: Iterable[object], *, conjunction: str = "and") -> str:
    """As in `3, 5 and 8`."""
    *others, final = [str(word) for word in words]
    return f"{', '.join(others)} {conjunction} {final}" if others else final


def shorten_paths(paths: Sequence[str]) -> dict[str, str]:
    """Dotted fields by their last word, or whole where two of them end alike."""
    lasts = [path.rsplit(".", 1)[-1] for path in paths]
    return {
        path: last if lasts.count(last) == 1 else path
        for path, last in zip(paths, lasts, strict=True)
    }


def student_title(spec: RunSpec) -> str:
    """What people call the student."""
    return spec.student.title


def teacher_title(spec: RunSpec) -> str:
    """What people call the teacher."""
    teacher = spec.teacher
    if teacher is None:
        return "none"
    if isinstance(teacher, TeacherFiles):
        return teacher.detector.title
    return f"run {teacher.run}" if isinstance(teacher, RunTeacher) else teacher.name


def method_title(spec: RunSpec) -> str:
    """The methods at work, as in `BCKD + PKD`."""
    names = [METHOD_TITLES[lesson.method] for lesson in iter_methods(spec.distillation)]
    return " + ".join(names) or "none"


def schedule_title(spec: RunSpec) -> str:
    """Epochs, with the name that papers have for twelve of them, or two times and three times."""
    epochs = spec.schedule.epochs
    name = {12: "1x", 24: "2x", 36: "3x"}.get(epochs)
    return f"{format_count(epochs, 'epoch')}{f' ({name})' if name else ''}"


def seeds_title(comparison: Comparison) -> str:
    """Over how many seeds a comparison is."""
    return format_count(len(comparison.runs), "seed")


def safe_url(url: str | None) -> str | None:
    """An address that a page may lead to: http and https only."""
    if url is None or urlsplit(url).scheme not in ("http", "https"):
        return None
    return url.rstrip("/")


def _unsigned_zero(text: str) -> str:
    """Without the sign that rounding leaves at a zero."""
    return "0.0" if float(text) == 0.0 else text.replace("-", MINUS)
