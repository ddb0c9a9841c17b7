"""Logging of the service: one event per line, without secrets and local variables."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from service.settings import LogFormat, LogLevel

_SECRETS = (
    (re.compile(r"td[mw]_[A-Za-z0-9_.-]+"), "td*_..."),
    (re.compile(r"(?i)(bearer\s+)[A-Za-z0-9._~+/=-]+"), r"\1..."),
    (re.compile(r"(://[^:/@\s]+:)[^@/\s]+@"), r"\1...@"),
)


def configure_logging(log_format: "LogFormat" = "console", level: "LogLevel" = "info") -> None:
    """Configure structlog; tracebacks omit local variables, whose values may be secrets."""
    renderers: list[structlog.typing.Processor] = (
        [
            structlog.processors.format_exc_info,
            mask_secrets,
            structlog.processors.JSONRenderer(default=str),
        ]
        if log_format == "json"
        else [
            mask_secrets,
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    )
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
    )


def mask_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor that replaces tokens and passwords in an event."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redact_secrets(value)
    return event


def redact_secrets(text: str) -> str:
    """Replace the tokens and passwords in a text by `...`."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
