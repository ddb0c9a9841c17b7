"""Stages, spending, decisions and conclusion of an autopilot, as the command line prints them."""

from collections.abc import Iterable, Sequence

from rich.markup import escape

from configs.conclusions import format_points
from configs.spec.autopilot import AutopilotBudget
from service.api.schemas.autopilots import (
    AutopilotSummaryView,
    AutopilotView,
    DecisionView,
    SpendingView,
    StageView,
)
from service.cli import console
from service.cli.console.tables import OutputTable
from service.domain.autopilot.history import (
    AutopilotEntry,
    BudgetExtension,
    Conclusion,
    ConfirmedGain,
    RunLaunch,
    RunStop,
    StageEnd,
)

_REASONS = {
    "deadline": "the hours of the budget are over",
    "cancellation": "stopped by a person",
}


def print_plan(view: AutopilotView) -> None:
    """Print what each stage would train and cost, and what the budget buys."""
    out = console.output()
    out.print(_build_plan_table(view.stages))
    if view.plan is None or view.spending is None:
        return
    out.print(
        f"In all at most {console.format_duration(view.plan.total_s)} of device time; the budget "
        f"of {format_budget(view.budget)} pays for "
        f"{console.format_duration(view.spending.total_s)}."
    )
    if view.plan.is_affordable:
        out.print(
            f"It screens {view.plan.methods} methods, and confirms the best on up to "
            f"{view.plan.pairs} seeds."
        )
    for line in (*view.plan.advice, *view.notes):
        out.print(f"[yellow]note[/] {escape(line)}")


def print_details(view: AutopilotView) -> None:
    """Print an autopilot as it is now."""
    out = console.output()
    out.print(console.create_fields(_describe(view)))
    if view.stages:
        out.print()
        out.print(_build_stages_table(view.stages))
    if view.jobs:
        out.print()
        table = console.create_table(
            "job", "run", "state", "mAP", folding=("job",), numbers=("mAP",)
        )
        for job in view.jobs:
            score = console.format_score(job.best_map)
            table.add_row(escape(job.key), job.id, console.format_state(job.state), score)
        out.print(table)
    out.print(f"`tandem decisions {view.id}` lists what it decided and why.")


def print_conclusion(view: AutopilotView) -> None:
    """Print what an autopilot claims and delivers, once it is over."""
    conclusion = view.conclusion
    fields = {"phase": format_phase(view), "message": escape(view.message)}
    if conclusion is not None:
        fields["delivered"] = escape(
            " of run ".join(filter(None, (conclusion.arm, conclusion.run_id)))
        )
        fields["gains"] = escape(_format_gains(conclusion.gains))
    console.output().print(console.create_fields(fields))


def build_autopilots_table(views: Sequence[AutopilotSummaryView]) -> OutputTable:
    """Build a table with a row per autopilot."""
    table = console.create_table(
        *("id", "name", "phase", "budget", "launched", "message"),
        folding=("name",),
        below=("message",),
    )
    for view in views:
        table.add_row(
            view.id,
            escape(view.name),
            format_phase(view),
            format_budget(view.budget),
            console.format_time(view.created_at)[:-3],
            escape(view.message),
        )
    return table


def build_decisions_table(decisions: Iterable[DecisionView]) -> OutputTable:
    """Build a table with a row per decision."""
    table = console.create_table(
        *("#", "decision", "run", "state", "mAP"), folding=("decision",), numbers=("#", "mAP")
    )
    for item in decisions:
        run = item.run
        table.add_row(
            str(item.position),
            escape(format_decision(item.entry)),
            "-" if run is None else run.id,
            "-" if run is None else console.format_state(run.state),
            "-" if run is None else console.format_score(run.best_map),
        )
    return table


def format_decision(entry: AutopilotEntry) -> str:
    """Describe an entry of the history in a line."""
    match entry:
        case RunLaunch():
            return f"{_name_stage(entry.stage)}: {_describe_launch(entry)}"
        case RunStop():
            return f"stops {entry.key}: {entry.message}"
        case StageEnd():
            return f"{_name_stage(entry.stage)} ends: {entry.message}"
        case Conclusion():
            return f"concludes: {entry.message}"
        case BudgetExtension():
            return f"extended by {console.format_duration(entry.budget_s)} of device time"
        case _:
            return _REASONS[entry.kind]


def format_phase(view: AutopilotSummaryView) -> str:
    """Format the phase, and what was asked for if that has not happened yet."""
    requested = {"pause": ", [magenta]paused[/]", "stop": ", [magenta]stopping[/]", "run": ""}
    return console.format_state(view.phase) + ("" if view.is_over else requested[view.desired])


def format_budget(budget: AutopilotBudget) -> str:
    """Format a budget with its unit."""
    if budget.hours is not None:
        return f"{budget.hours:g} h"
    if budget.gpu_hours is not None:
        return f"{budget.gpu_hours:g} GPU h"
    return f"price {budget.price:g}"


def format_progress(view: AutopilotView) -> str:
    """Format phase, stage and spending of an autopilot as a line."""
    stage = "" if view.stage is None else _name_stage(view.stage)
    spending = "" if view.spending is None else _format_spending(view.spending)
    return "  ".join(part for part in (format_phase(view), stage, spending) if part)


def _describe_launch(launch: RunLaunch) -> str:
    if launch.epochs == 0:
        return f"measures {launch.arm.name}"
    verb = "trains" if launch.continues is None else "continues"
    return f"{verb} {launch.arm.name}, seed {launch.seed}, {launch.epochs} epochs"


def _describe(view: AutopilotView) -> dict[str, str]:
    conclusion = view.conclusion
    delivered = () if conclusion is None else (conclusion.arm, conclusion.run_id)
    return {
        "id": view.id,
        "name": escape(view.name),
        "phase": format_phase(view),
        "message": escape(view.message),
        "teachers": escape(", ".join((*view.spec.teachers, *view.spec.trained_teachers))),
        "students": escape(", ".join(view.spec.students)),
        "budget": format_budget(view.budget),
        "spent": "" if view.spending is None else _format_spending(view.spending),
        "delivered": escape(" of run ".join(filter(None, delivered))),
        "gains": "" if conclusion is None else escape(_format_gains(conclusion.gains)),
        "advice": "" if view.plan is None or view.is_over else escape(" ".join(view.plan.advice)),
        "notes": escape(" ".join(view.notes)),
    }


def _build_plan_table(stages: Iterable[StageView]) -> OutputTable:
    table = console.create_table(
        "stage", "runs", "device time", "what", folding=("what",), numbers=("runs", "device time")
    )
    for stage in stages:
        cost = console.format_duration(stage.planned_s)
        table.add_row(_name_stage(stage.stage), str(stage.runs), cost, escape(stage.message))
    return table


def _build_stages_table(stages: Iterable[StageView]) -> OutputTable:
    table = console.create_table(
        *("stage", "planned", "spent", "result", "what"),
        folding=("what",),
        numbers=("planned", "spent"),
    )
    for stage in stages:
        table.add_row(
            _name_stage(stage.stage),
            console.format_duration(stage.planned_s),
            console.format_duration(stage.spent_s),
            "-" if stage.result is None else stage.result.replace("_", " "),
            escape(stage.message),
        )
    return table


def _format_spending(spending: SpendingView) -> str:
    """Seconds by the clock if the budget is in hours, else device seconds."""
    if spending.clock_total_s is not None:
        spent_s, total_s, unit = spending.clock_spent_s, spending.clock_total_s, "by the clock"
    else:
        spent_s, total_s, unit = spending.spent_s, spending.total_s, "of device time"
    spent, total = console.format_duration(spent_s), console.format_duration(total_s)
    return f"{spent} of {total} {unit}"


def _format_gains(gains: dict[str, ConfirmedGain]) -> str:
    return "; ".join(
        f"{arm} {format_points(gain.mean)} mAP over {gain.pairs} seeds"
        + ("" if gain.low is None else f", above {format_points(gain.low)}")
        for arm, gain in gains.items()
    )


def _name_stage(stage: str) -> str:
    return stage.replace("_", " ")
