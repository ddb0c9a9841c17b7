"""What an autopilot has spent, and what more budget might bring."""

import statistics
from collections.abc import Iterator

from configs.conclusions import format_points
from service.domain.autopilot.autopilots import Autopilot
from service.domain.autopilot.budget import measure_stage_costs, total_budget_s
from service.domain.autopilot.confirmation import examine_pairs
from service.domain.autopilot.history import AutopilotHistory
from service.domain.autopilot.report.page import (
    PageSection,
    PageTable,
    PageText,
    format_seconds,
)
from service.domain.autopilot.request import BASELINE, AutopilotRequest
from service.domain.autopilot.sequential_test import LOOK_SHARES, MAX_PAIRS, half_power_gain
from service.domain.autopilot.state import AutopilotState, replay_history


def describe_costs(request: AutopilotRequest | None, history: AutopilotHistory) -> PageSection:
    """Planned and spent device seconds of each stage."""
    costs = measure_stage_costs(history)
    spent_s = sum(cost.spent_s for cost in costs)
    total = (
        "all",
        format_seconds(sum(cost.planned_s for cost in costs)),
        format_seconds(spent_s),
    )
    table = PageTable(
        columns=("Stage", "Planned", "Spent"),
        rows=(
            *(
                (
                    cost.stage.replace("_", " "),
                    format_seconds(cost.planned_s),
                    format_seconds(cost.spent_s),
                )
                for cost in costs
            ),
            total,
        ),
    )
    text = "Device seconds of all jobs, also of those that ran at the same time, added up. "
    if request is not None:
        budget_s = total_budget_s(request, replay_history(history))
        text += f"The budget is {format_seconds(budget_s)}. "
    text += "The probes, the export and the evaluations of the delivery do not count."
    return PageSection(title="What it cost", blocks=(table, PageText(text=text)))


def describe_prospects(autopilot: Autopilot, history: AutopilotHistory) -> PageSection:
    """What more budget might bring."""
    request = autopilot.request
    sentences = [] if request is None else list(_list_prospects(autopilot.id, request, history))
    if not sentences:
        sentences = ["The students have not been probed successfully, so nothing is known of it."]
    return PageSection(
        title="What more budget might bring",
        blocks=tuple(PageText(text=sentence) for sentence in sentences),
    )


def _list_prospects(
    autopilot_id: str, request: AutopilotRequest, history: AutopilotHistory
) -> Iterator[str]:
    state = replay_history(history)
    screened = {launch.arm.name for launch in state.list_runs("screening")} - {BASELINE}
    unscreened = [option.name for option in request.methods if option.name not in screened]
    if screened and unscreened:
        yield (
            f"{len(unscreened)} of {len(request.methods)} methods were not screened: "
            f"{', '.join(unscreened)}. A launch with a larger budget screens more of them."
        )
    if not screened:
        yield "No method was screened."
    yield from _describe_pairs(request, state)
    conclusion = state.conclusion
    if conclusion is None:
        return
    if conclusion.result == "out_of_budget":
        yield (
            "The search ended by its budget. An extension continues it where it was, with the "
            f"same seeds and checkpoints: `POST /v1/autopilots/{autopilot_id}:extend`."
        )
    else:
        yield (
            f"The search ended by its result ({conclusion.result.replace('_', ' ')}), which an "
            "extension would not change."
        )


def _describe_pairs(request: AutopilotRequest, state: AutopilotState) -> Iterator[str]:
    """How much smaller gains the last look would confirm, by the deviation of the pairs so far."""
    current = examine_pairs(request, state)
    arms = len(current.gains)
    for arm, gains in current.gains.items():
        pairs = max((size for size in LOOK_SHARES if size <= len(gains)), default=None)
        if pairs is None or pairs == MAX_PAIRS:
            continue
        deviation = statistics.stdev(gains)
        now, last = (deviation * half_power_gain(n, arms=arms) for n in (pairs, MAX_PAIRS))
        yield (
            f"{arm} was compared on {len(gains)} seeds. With their deviation of "
            f"{format_points(deviation).lstrip('+')} mAP, {pairs} pairs confirm a gain of "
            f"{format_points(now)} in half of all cases, and {MAX_PAIRS} pairs one of "
            f"{format_points(last)}."
        )
