"""What an autopilot delivers, and what the figures do not say."""

from service.domain.autopilot.autopilots import Autopilot
from service.domain.autopilot.history import AutopilotHistory
from service.domain.autopilot.report.facts import ExportFacts, ReportFacts
from service.domain.autopilot.report.page import PageSection, PageTable, PageText
from service.domain.autopilot.state import replay_history
from service.domain.autopilot.teacher import format_map

_TITLE = "What is delivered"


def describe_delivery(history: AutopilotHistory, facts: ReportFacts) -> PageSection:
    """The run whose checkpoint is delivered, and its exports."""
    conclusion = replay_history(history).conclusion
    if conclusion is None:
        return PageSection(title=_TITLE, blocks=(PageText(text="The search is not over."),))
    if conclusion.run is None:
        text = "Nothing: no student was trained to the end."
        return PageSection(title=_TITLE, blocks=(PageText(text=text),))
    rows = (
        ("Student", conclusion.arm or "-"),
        ("Checkpoint", f"the best one of run {facts.run_ids.get(conclusion.run, '-')}"),
        ("Its mAP on the validation images", _format_map_of(conclusion.run, history)),
        *_list_exports(facts.export),
    )
    return PageSection(title=_TITLE, blocks=(PageTable(columns=("", ""), rows=rows),))


def describe_limits(autopilot: Autopilot, history: AutopilotHistory) -> PageSection:
    """What a reader has to know before trusting the figures."""
    base = autopilot.spec.base
    conclusion = replay_history(history).conclusion
    sentences = [
        "The mAP of the delivered checkpoint is on the validation images that selected it, among "
        "epochs and among seeds, so it is overstated a little. Evaluate it on images that no run "
        "has used: `tandem evaluate`.",
        f"A gain holds for this dataset, this teacher and {base.schedule.epochs} epochs. Other "
        "schedules were not compared.",
        "Learning rates were compared on one seed, and methods that were screened out on one or "
        "few: their order among each other is not confirmed.",
    ]
    if conclusion is not None and not conclusion.claims_gain:
        sentences.append(
            "No confirmed gain does not mean that distillation does not help: it may be smaller "
            "than the pairs can show."
        )
    return PageSection(
        title="What the figures do not say",
        blocks=tuple(PageText(text=sentence) for sentence in sentences),
    )


def _list_exports(export: ExportFacts | None) -> tuple[tuple[str, str], ...]:
    if export is None:
        return (("Export", "not launched yet"),)
    return (
        ("Formats", ", ".join(export.formats)),
        ("Export", f"run {export.run_id}, {export.state}"),
        ("Files", export.folder),
    )


def _format_map_of(key: str, history: AutopilotHistory) -> str:
    maps = next((outcome.maps for outcome in history.outcomes if outcome.key == key), {})
    return format_map(max(maps.values())) if maps else "-"
