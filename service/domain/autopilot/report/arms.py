"""What an autopilot has tried: every arm of every stage."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from service.domain.autopilot.history import AutopilotHistory, RunLaunch, RunOutcome
from service.domain.autopilot.report.page import PageSection, PageTable, PageText, format_seconds
from service.domain.autopilot.teacher import format_map

_COLUMNS = ("Stage", "Arm", "Seeds", "mAP", "mAP by seed", "State", "Planned", "Spent", "Runs")


def describe_arms(history: AutopilotHistory, run_ids: Mapping[str, str]) -> PageSection:
    """A row for each arm of each stage, in the order of launches."""
    arms: dict[tuple[str, str], list[RunLaunch]] = {}
    for entry in history.entries:
        if isinstance(entry, RunLaunch):
            arms.setdefault((entry.stage, entry.arm.name), []).append(entry)
    outcomes = {outcome.key: outcome for outcome in history.outcomes}
    rows = tuple(_make_row(launches, outcomes, run_ids) for launches in arms.values())
    if not rows:
        return PageSection(
            title="What was tried", blocks=(PageText(text="No run has been launched."),)
        )
    note = (
        "mAP is that of the best checkpoint on the validation images, in points of 100; the mean "
        "is over complete runs. Of a run that was stopped, the newest mAP is in parentheses, with "
        "its epoch."
    )
    return PageSection(
        title="What was tried",
        blocks=(PageTable(columns=_COLUMNS, rows=rows), PageText(text=note)),
    )


def _make_row(
    launches: Sequence[RunLaunch],
    outcomes: Mapping[str, RunOutcome],
    run_ids: Mapping[str, str],
) -> tuple[str, ...]:
    newest = list({launch.seed: launch for launch in launches}.values())
    results = [outcomes.get(launch.key) for launch in newest]
    complete = [max(result.maps.values()) for result in results if result and _is_complete(result)]
    counts = Counter("not started" if result is None else result.state for result in results)
    spent_s = sum(outcomes[launch.key].spent_s for launch in launches if launch.key in outcomes)
    runs = dict.fromkeys(run_ids[launch.key] for launch in launches if launch.key in run_ids)
    return (
        launches[0].stage.replace("_", " "),
        launches[0].arm.name,
        ", ".join(str(launch.seed) for launch in newest),
        format_map(statistics.fmean(complete)) if complete else "-",
        ", ".join(map(_format_result, results)),
        ", ".join(f"{count} {state}" for state, count in counts.items()),
        format_seconds(sum(launch.planned_s for launch in launches)),
        format_seconds(spent_s),
        ", ".join(runs),
    )


def _is_complete(result: RunOutcome) -> bool:
    return result.state == "succeeded" and bool(result.maps)


def _format_result(result: RunOutcome | None) -> str:
    if result is None or not result.maps:
        return "-"
    if _is_complete(result):
        return format_map(max(result.maps.values()))
    epoch = max(result.maps)
    return f"({format_map(result.maps[epoch])} after epoch {epoch})"
