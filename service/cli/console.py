"""The terminal, and how values look on it."""

import json
from datetime import datetime
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.console import Console
    from rich.table import Table

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
    "live": "blue",
    "finished": "green",
    "up": "green",
    "elsewhere": "green",
    "down": "dim",
    "dead": "red",
    "unresponsive": "red",
    "unreachable": "red",
}


def output() -> "Console":
    """Where answers go."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def error_output() -> "Console":
    """Where complaints go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(document: "JsonValue") -> None:
    """An answer for a program."""
    typer.echo(json.dumps(document, indent=2, sort_keys=False))


def table(*columns: str, folding: tuple[str, ...] = ()) -> "Table":
    """A table in the house style; only the columns in `folding` may take several lines."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column not in folding)
    return made


def format_state(state: str) -> str:
    """A state in its colour."""
    return f"[{STATE_COLORS.get(state, 'white')}]{state}[/]"


def format_score(value: float | None) -> str:
    """An mAP as papers write it, times 100."""
    return "-" if value is None else f"{100 * value:.1f}"


def format_duration(seconds: float | None) -> str:
    """A duration at a glance."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_time(moment: datetime | None) -> str:
    """A time in the zone of whoever looks."""
    return "-" if moment is None else f"{moment.astimezone():%m-%d %H:%M:%S}"


def format_memory(num_bytes: int) -> str:
    """Memory at a glance."""
    return f"{num_bytes / 2**20:.0f} MiB" if num_bytes else "-"
