"""Log files of a process, crash tracebacks, and filters for noisy libraries."""

import faulthandler
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from workers.process.bounded_log import BoundedFileHandler

_FORMATTER = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
_log_file: ContextVar[Path | None] = ContextVar("log_file", default=None)


@contextmanager
def log_context(log_file: Path) -> Iterator[None]:
    """Log only to this file inside the context; outside of any context, log to all files."""
    token = _log_file.set(log_file)
    try:
        yield
    finally:
        _log_file.reset(token)


def configure_logging(*paths: Path, to_stderr: bool) -> None:
    """Append this process's log to files; removes all other handlers."""
    handlers: list[logging.Handler] = [_file_handler(path) for path in paths]
    if to_stderr:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        handler.setFormatter(_FORMATTER)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


def _file_handler(path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = BoundedFileHandler(path)
    handler.addFilter(lambda _: _log_file.get() in (None, path))
    return handler


def enable_faulthandler(path: Path) -> None:
    """Append the stacks of all threads to a file if a signal such as SIGSEGV kills this process.

    The file stays open, because none can be opened at that time.
    """
    faulthandler.enable(path.open("a", encoding="utf-8"), all_threads=True)


def silence_libraries() -> None:
    """Keep warnings of libraries, and httpx's line for each request, out of the log."""
    warnings.simplefilter("ignore")
    for name in ("mmcv", "mmdet", "httpx"):
        # A filter, because mmcv resets the level of its loggers when it first gets them.
        logging.getLogger(name).addFilter(_is_warning)
    # Warns at import if the machine has no GPU; `tandem-worker doctor` reports that.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
