"""Consoles for output and errors, and formatting of values."""

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel
    from rich.text import Text

    from service.api.schemas.runs import FindingView
    from service.cli.console.tables import OutputFields, OutputTable
    from service.cli.console.wrapping import OutputConsole

AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON; docs/command-line.md lists its keys.")
]
WithSpec = Annotated[bool, typer.Option("--spec", help="With --plan: also print the spec as YAML.")]

_PRECISION_KEY = re.compile(r"mAP|(^|[/_])A[PR](_|$)")

STATE_COLORS = {
    "queued": "yellow",
    "starting": "cyan",
    "running": "blue",
    "paused": "magenta",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "dim",
    "probing": "cyan",
    "searching": "blue",
    "reporting": "cyan",
    "delivering": "cyan",
    "stopped": "magenta",
    "finished": "green",
    "up": "green",
    "elsewhere": "green",
    "down": "dim",
    "dead": "red",
    "unresponsive": "red",
    "unreachable": "red",
}


def output() -> "OutputConsole":
    """Create a console for stdout; in a file or pipe it wraps and cuts nothing."""
    from service.cli.console.wrapping import OutputConsole

    return OutputConsole()


def error_output() -> "OutputConsole":
    """Create a console for stderr."""
    from service.cli.console.wrapping import OutputConsole

    return OutputConsole(stderr=True)


def print_json(document: object) -> None:
    """Print models, dataclasses or JSON values, alone or in lists, as indented JSON."""
    from pydantic_core import to_jsonable_python

    typer.echo(json.dumps(to_jsonable_python(document), indent=2))


def print_plan(
    spec: "BaseModel",
    findings: "Sequence[FindingView]",
    *,
    details: "Iterable[str]",
    with_spec: bool = False,
) -> None:
    """Print a dry run: what would happen, its findings, the spec as YAML if `with_spec`.

    Exit with an error if a finding is one.
    """
    out = output()
    for line in details:
        out.print(line)
    print_findings(findings)
    if with_spec:
        import yaml

        typer.echo(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False), nl=False)
    fail_on_errors(findings)


def print_findings(findings: "Iterable[FindingView]") -> None:
    """Print the problems of a spec, errors in red and warnings in yellow."""
    from rich.markup import escape

    for finding in findings:
        color = "red" if finding.severity == "error" else "yellow"
        output().print(
            f"[{color}]{finding.severity}[/] {finding.field or 'spec'}: {escape(finding.message)}"
        )


def fail_on_errors(findings: "Iterable[FindingView]") -> None:
    """Exit with code 1 if a finding is an error."""
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def create_table(
    *columns: str,
    folding: "Sequence[str]" = (),
    below: "Sequence[str]" = (),
    numbers: "Sequence[str]" = (),
) -> "OutputTable":
    """Create an empty table whose cells are markup: escape what may contain brackets.

    Columns in `folding` wrap if the terminal is narrow, e.g. names; no other column is ever cut.
    Cells in `below` get a line of their own, e.g. addresses. Those in `numbers` are right-aligned.
    """
    from service.cli.console.tables import OutputTable

    return OutputTable(columns, folding=folding, below=below, numbers=numbers)


def create_fields(fields: "Mapping[str, str | Text | None]") -> "OutputFields":
    """Create a list of labels with values, which are markup; fields without a value are left out.

    A value that does not fit, e.g. an address, gets a line of its own.
    """
    from service.cli.console.tables import OutputFields

    return OutputFields((label, value) for label, value in fields.items() if value)


def format_state(state: str) -> str:
    """Format a state in its color."""
    return f"[{STATE_COLORS.get(state, 'white')}]{state}[/]"


def format_score(value: float | None) -> str:
    """Format an mAP times 100, as in papers; `-` if there is none, which COCO writes as -1."""
    return "-" if value is None or value < 0 else f"{100 * value:.1f}"


def format_metric(key: str, value: float) -> str:
    """Format the value of a metric key; average precision and recall as `format_score` does."""
    return format_score(value) if _PRECISION_KEY.search(key) else f"{value:.4g}"


def format_metric_name(key: str) -> str:
    """Return `mAP` for `val/bbox_mAP`, `mAP_50` for `val/bbox_mAP_50`; other keys unchanged."""
    return key.removeprefix("val/bbox_")


def format_duration(seconds: float | None) -> str:
    """Format a duration in hours, minutes and seconds."""
    if seconds is None:
        return "-"
    rounded = max(0, round(seconds))
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"


def format_time(time: datetime | None) -> str:
    """Format a time in the local time zone."""
    return "-" if time is None else f"{time.astimezone():%m-%d %H:%M:%S}"


def format_date(time: datetime | None) -> str:
    """Format the day of a time in the local time zone."""
    return "-" if time is None else f"{time.astimezone():%Y-%m-%d}"


def format_memory(num_bytes: int) -> str:
    """Format an amount of memory in MiB."""
    return f"{num_bytes / 2**20:.0f} MiB" if num_bytes else "-"
