"""Where a process's log lines go, and which libraries are kept from adding theirs."""

import faulthandler
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_LINE = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
_speaker: ContextVar[Path | None] = ContextVar("speaker", default=None)


@contextmanager
def log_context(log_file: Path) -> Iterator[None]:
    """What is logged herein goes to one log of several; what nobody logs for goes to all."""
    token = _speaker.set(log_file)
    try:
        yield
    finally:
        _speaker.reset(token)


def configure_logging(*paths: Path, to_stderr: bool) -> None:
    """Append what this process logs to files; others' handlers are taken away."""
    handlers: list[logging.Handler] = [_file_handler(path) for path in paths]
    if to_stderr:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        handler.setFormatter(_LINE)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


def _file_handler(path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.addFilter(lambda _: _speaker.get() in (None, path))
    return handler


def enable_faulthandler(path: Path) -> None:
    """Append where every thread was to a file, should this process die of a signal as SIGSEGV.

    The file stays open: nothing can be opened then.
    """
    faulthandler.enable(path.open("a", encoding="utf-8"), all_threads=True)


def silence_libraries() -> None:
    """Keep warnings that say nothing to our users, and every request, out of the log."""
    warnings.simplefilter("ignore")
    for name in ("mmcv", "mmdet", "httpx"):
        # A filter, for mmcv sets its loggers' level anew whenever it first asks for one.
        logging.getLogger(name).addFilter(_is_warning)
    # It warns at import that a machine has no GPU; the doctor says so where it matters.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
