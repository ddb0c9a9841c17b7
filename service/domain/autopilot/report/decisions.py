"""What an autopilot has decided, in order, and why."""

from collections.abc import Iterator
from itertools import groupby

from service.domain.autopilot.autopilots import Autopilot
from service.domain.autopilot.history import (
    AutopilotCancellation,
    AutopilotEntry,
    AutopilotHistory,
    BudgetExtension,
    Conclusion,
    DeadlineReached,
    RunLaunch,
    RunStop,
    StageEnd,
)
from service.domain.autopilot.report.page import PageSection, PageTable, PageText, format_seconds

_COLUMNS = ("", "Decision", "Of", "Why")

_Row = tuple[str, str, str]
"""Decision, what it is about, and why."""


def describe_decisions(autopilot: Autopilot, history: AutopilotHistory) -> PageSection:
    """The notes of the probes, then a row for each entry; launches of one stage share a row."""
    notes = tuple(PageText(text=note) for note in autopilot.notes)
    rows = list(_list_rows(history.entries))
    if not rows:
        text = PageText(text="Nothing has been decided yet: the students are probed first.")
        return PageSection(title="What was decided", blocks=(*notes, text))
    table = PageTable(
        columns=_COLUMNS,
        rows=tuple((str(number), *row) for number, row in enumerate(rows, start=1)),
    )
    return PageSection(title="What was decided", blocks=(*notes, table))


def _list_rows(entries: tuple[AutopilotEntry, ...]) -> Iterator[_Row]:
    for stage, group in groupby(entries, key=_stage_of_launch):
        if stage is not None:
            yield _describe_launches(stage, [e for e in group if isinstance(e, RunLaunch)])
        else:
            yield from (_describe(entry) for entry in group)


def _stage_of_launch(entry: AutopilotEntry) -> str | None:
    return entry.stage if isinstance(entry, RunLaunch) else None


def _describe_launches(stage: str, launches: list[RunLaunch]) -> _Row:
    arms = dict.fromkeys(launch.arm.name for launch in launches)
    seeds = dict.fromkeys(str(launch.seed) for launch in launches)
    planned_s = sum(launch.planned_s for launch in launches)
    runs = "1 run" if len(launches) == 1 else f"{len(launches)} runs"
    noun = "seed" if len(seeds) == 1 else "seeds"
    return (
        f"launched {runs}, planned {format_seconds(planned_s)}",
        stage.replace("_", " "),
        f"{'; '.join(arms)}; {noun} {', '.join(seeds)}",
    )


def _describe(entry: AutopilotEntry) -> _Row:
    match entry:
        case StageEnd() | RunStop() | Conclusion():
            return _describe_result(entry)
        case BudgetExtension():
            more = format_seconds(entry.budget_s)
            return f"extended by {more}", "budget", "A person granted more."
        case DeadlineReached():
            return "ended", "budget", "Its hours by the clock were over."
        case AutopilotCancellation():
            return "canceled", "autopilot", "A person stopped it."
        case RunLaunch():
            return _describe_launches(entry.stage, [entry])


def _describe_result(entry: StageEnd | RunStop | Conclusion) -> _Row:
    match entry:
        case StageEnd():
            selected = f": {', '.join(entry.selected)}" if entry.selected else ""
            stage = entry.stage.replace("_", " ")
            return f"{entry.result.replace('_', ' ')}{selected}", stage, entry.message
        case RunStop():
            return f"stopped, {entry.reason.replace('_', ' ')}", entry.key, entry.message
        case Conclusion():
            return f"concluded, {entry.result.replace('_', ' ')}", entry.arm or "-", entry.message
