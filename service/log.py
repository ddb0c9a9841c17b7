"""How the service writes its log: one event a line, tracebacks without the values of variables."""

import sys

import structlog


def configure_logging() -> None:
    """Plain tracebacks: those with values are slow and may hold what nobody should read."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
    )
