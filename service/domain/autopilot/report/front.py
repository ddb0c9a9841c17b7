"""mAP against latency of the students that an autopilot could deliver."""

from collections.abc import Sequence

from service.domain.autopilot.history import AutopilotHistory, RunLaunch
from service.domain.autopilot.report.facts import EvaluationFacts, ReportFacts
from service.domain.autopilot.report.page import (
    FrontPlot,
    MeasuredModel,
    PageBlock,
    PageSection,
    PageTable,
    PageText,
)
from service.domain.autopilot.state import replay_history
from service.domain.autopilot.teacher import format_map

_COLUMNS = ("Student", "mAP", "Latency", "On the front", "Evaluation", "State")
_TITLE = "mAP against latency"


def describe_front(history: AutopilotHistory, facts: ReportFacts) -> PageSection:
    """All evaluations as a table, and as a plot those that have succeeded."""
    if not facts.evaluations:
        text = "The students are evaluated when the search is over."
        return PageSection(title=_TITLE, blocks=(PageText(text=text),))
    conclusion = replay_history(history).conclusion
    delivered = None if conclusion is None else conclusion.run
    labels = _label_launches(history)
    models = {
        key: measured
        for key, evaluation in facts.evaluations.items()
        if (measured := _measure(evaluation, labels[key], is_delivered=key == delivered))
    }
    best = find_front(tuple(models.values()))
    models = {
        key: model.model_copy(update={"is_on_front": model in best})
        for key, model in models.items()
    }
    rows = tuple(
        _make_row(labels[key], evaluation, models.get(key))
        for key, evaluation in facts.evaluations.items()
    )
    plot: tuple[PageBlock, ...] = (FrontPlot(models=tuple(models.values())),) if models else ()
    blocks = (*plot, PageTable(columns=_COLUMNS, rows=rows), PageText(text=_explain(facts)))
    return PageSection(title=_TITLE, blocks=blocks)


def find_front(models: Sequence[MeasuredModel]) -> tuple[MeasuredModel, ...]:
    """Those that no other one dominates, by rising latency."""
    best = [model for model in models if not any(_dominates(other, model) for other in models)]
    return tuple(sorted(best, key=lambda model: (model.latency_ms, model.mean_ap)))


def _dominates(first: MeasuredModel, second: MeasuredModel) -> bool:
    is_no_worse = first.mean_ap >= second.mean_ap and first.latency_ms <= second.latency_ms
    return is_no_worse and (first.mean_ap, first.latency_ms) != (second.mean_ap, second.latency_ms)


def _label_launches(history: AutopilotHistory) -> dict[str, str]:
    return {
        entry.key: f"{entry.arm.name}, seed {entry.seed}"
        if entry.arm.student is None or entry.arm.student in entry.arm.name
        else f"{entry.arm.student}, {entry.arm.name}, seed {entry.seed}"
        for entry in history.entries
        if isinstance(entry, RunLaunch)
    }


def _measure(
    evaluation: EvaluationFacts, label: str, *, is_delivered: bool
) -> MeasuredModel | None:
    if evaluation.mean_ap is None or evaluation.latency_ms is None:
        return None
    return MeasuredModel(
        label=label,
        latency_ms=evaluation.latency_ms,
        mean_ap=evaluation.mean_ap,
        is_on_front=False,
        is_delivered=is_delivered,
    )


def _make_row(
    label: str, evaluation: EvaluationFacts, model: MeasuredModel | None
) -> tuple[str, ...]:
    return (
        f"{label} (delivered)" if model is not None and model.is_delivered else label,
        "-" if evaluation.mean_ap is None else format_map(evaluation.mean_ap),
        "-" if evaluation.latency_ms is None else f"{evaluation.latency_ms:.1f} ms",
        "-" if model is None else ("yes" if model.is_on_front else "no"),
        evaluation.run_id,
        evaluation.state,
    )


def _explain(facts: ReportFacts) -> str:
    devices = sorted({item.device for item in facts.evaluations.values() if item.device})
    measured = f" on {' and '.join(devices)}" if devices else ""
    return (
        "On the front no other student has at least the mAP and at most the latency. Latency is "
        "the median time from one loaded image to its boxes (forward pass, decoding, NMS) in "
        f"PyTorch{measured}; exported files have other times. Each student is there with its best "
        "run, so differences below the noise floor mean nothing."
    )
