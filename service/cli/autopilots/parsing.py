"""Budgets and latencies on the command line, e.g. `6h` and `20ms`."""

import re
from typing import TYPE_CHECKING, Literal

from service.cli.errors import CliError, ErrorMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.spec.autopilot import AutopilotBudget

_BUDGET = re.compile(r"(?P<hours>[\d.]+)h|(?P<minutes>[\d.]+)min|(?P<gpu_hours>[\d.]+)gpu-h")
_PRICE = re.compile(r"price:(?P<price>[\d.]+)")
_LATENCY = re.compile(r"(?P<milliseconds>[\d.]+)ms")
_ACCEPTED_BUDGETS = (
    "Write hours by the clock as 6h or 90min, hours of all GPUs as 12gpu-h, or a price as price:25."
)


def parse_budget(text: str) -> "AutopilotBudget":
    """Parse `6h`, `90min`, `12gpu-h` or `price:25`. Raises `CliError` for anything else."""
    from configs.spec.autopilot import AutopilotBudget

    match = _BUDGET.fullmatch(text) or _PRICE.fullmatch(text)
    amounts = {} if match is None else _amounts(match)
    if not any(amounts.values()):
        raise CliError(ErrorMessage(f"{text!r} is no budget.", advice=(_ACCEPTED_BUDGETS,)))
    if "minutes" in amounts:
        return AutopilotBudget(hours=amounts["minutes"] / 60.0)
    return AutopilotBudget.model_validate(amounts)


def parse_latency_ms(text: str) -> float:
    """Parse `20ms`. Raises `CliError` for anything else."""
    match = _LATENCY.fullmatch(text)
    value = _amounts(match).get("milliseconds") if match else None
    if not value:
        advice = ("Write milliseconds for one image, as in --latency 20ms.",)
        raise CliError(ErrorMessage(f"{text!r} is no latency.", advice=advice))
    return value


def parse_teachers(names: "Sequence[str]") -> 'list[str] | Literal["auto"] | None':
    """The teachers of a request. Raises `CliError` for `auto` together with names."""
    if "auto" not in names:
        return list(names) or None
    if len(names) > 1:
        advice = ("auto takes all teachers that know the classes: leave out the others.",)
        raise CliError(ErrorMessage("--teacher auto and a name are given.", advice=advice))
    return "auto"


def _amounts(match: re.Match[str]) -> dict[str, float]:
    """The numbers by unit; 0 for a text that is none, as 1.2.3."""
    return {
        unit: float(text) if text.count(".") <= 1 and text != "." else 0.0
        for unit, text in match.groupdict().items()
        if text is not None
    }
