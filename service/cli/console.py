"""Consoles for output and errors, and formatting of values."""

import json
from datetime import datetime
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel, JsonValue
    from rich.console import Console
    from rich.table import Table

    from service.api.schemas.runs import FindingView

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
    "stopped": "magenta",
    "finished": "green",
    "up": "green",
    "elsewhere": "green",
    "down": "dim",
    "dead": "red",
    "unresponsive": "red",
    "unreachable": "red",
}


def output() -> "Console":
    """Create a console for stdout."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def error_output() -> "Console":
    """Create a console for stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(document: "JsonValue") -> None:
    """Print a document as indented JSON, in the order of its keys."""
    typer.echo(json.dumps(document, indent=2, sort_keys=False))


def print_plan(
    spec: "BaseModel", findings: "Sequence[FindingView]", *, details: "Iterable[str]"
) -> None:
    """Print a dry run: the spec as YAML, its findings, further lines; exits if one is an error."""
    import yaml
    from rich.markup import escape

    typer.echo(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False), nl=False)
    out = output()
    for finding in findings:
        color = "red" if finding.severity == "error" else "yellow"
        out.print(
            f"[{color}]{finding.severity}[/] {finding.field or 'spec'}: {escape(finding.message)}"
        )
    for line in details:
        out.print(line)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def create_table(*columns: str, folding: tuple[str, ...] = ()) -> "Table":
    """Create an empty table; only the columns in `folding` may wrap."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column not in folding)
    return table


def format_state(state: str) -> str:
    """Format a state in its color."""
    return f"[{STATE_COLORS.get(state, 'white')}]{state}[/]"


def format_score(value: float | None) -> str:
    """Format an mAP times 100, as in papers."""
    return "-" if value is None else f"{100 * value:.1f}"


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


def format_memory(num_bytes: int) -> str:
    """Format an amount of memory in MiB."""
    return f"{num_bytes / 2**20:.0f} MiB" if num_bytes else "-"
