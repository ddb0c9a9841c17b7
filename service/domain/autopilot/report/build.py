"""Builds the report of an autopilot, at any moment of its life."""

from configs.spec.autopilot import AutopilotSpec
from configs.spec.references import NamedDataset
from service.domain.autopilot.autopilots import Autopilot, AutopilotPhase
from service.domain.autopilot.history import AutopilotHistory
from service.domain.autopilot.report.arms import describe_arms
from service.domain.autopilot.report.claim import describe_claim
from service.domain.autopilot.report.costs import describe_costs, describe_prospects
from service.domain.autopilot.report.decisions import describe_decisions
from service.domain.autopilot.report.delivery import describe_delivery, describe_limits
from service.domain.autopilot.report.facts import ReportFacts
from service.domain.autopilot.report.front import describe_front
from service.domain.autopilot.report.page import AutopilotReport

_HEADLINES = {
    AutopilotPhase.PROBING: "The students are probed; nothing has been trained.",
    AutopilotPhase.SEARCHING: "The search is not over; all figures are those so far.",
    AutopilotPhase.DELIVERING: "The search is over, and the delivery is under way.",
    AutopilotPhase.SUCCEEDED: "A student is delivered.",
    AutopilotPhase.FAILED: "No student is delivered.",
    AutopilotPhase.STOPPED: "It was stopped; nothing is delivered.",
}
"""Of phases without a message."""


def build_autopilot_report(
    autopilot: Autopilot, history: AutopilotHistory, facts: ReportFacts
) -> AutopilotReport:
    """All that can be said of an autopilot at `facts.at`."""
    return AutopilotReport(
        autopilot=autopilot.id,
        title=f"Autopilot {autopilot.name}",
        headline=autopilot.message or _HEADLINES[autopilot.phase],
        subject=_describe_subject(autopilot.spec),
        at=facts.at,
        sections=(
            describe_claim(autopilot.request, history, facts),
            describe_delivery(history, facts),
            describe_front(history, facts),
            describe_decisions(autopilot, history),
            describe_arms(history, facts.run_ids),
            describe_costs(autopilot.request, history),
            describe_prospects(autopilot, history),
            describe_limits(autopilot, history),
        ),
    )


def _describe_subject(spec: AutopilotSpec) -> str:
    dataset, budget = spec.base.data.dataset, spec.budget.model_dump(exclude_none=True)
    limit = "" if spec.max_latency_ms is None else f" of at most {spec.max_latency_ms:g} ms"
    ((unit, amount),) = budget.items()
    teachers = [*spec.teachers, *(f"{name} (to train)" for name in spec.trained_teachers)]
    return (
        f"Dataset {dataset.name if isinstance(dataset, NamedDataset) else dataset.root}; "
        f"teachers {', '.join(teachers)}; students {', '.join(spec.students)}{limit}; "
        f"{spec.base.schedule.epochs} epochs; budget {amount:g} {unit.replace('_', ' ')}."
    )
