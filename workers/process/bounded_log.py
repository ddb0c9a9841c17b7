"""A log file of which only the beginning and the end take space on the disk.

Its middle becomes a hole (`fallocate(2)`): no byte moves, so positions in the file stay valid for
the shipper, for other processes that append to it, and for faulthandler.
"""

import ctypes
import logging
import os
from pathlib import Path
from typing import Final

from configs.protocol.log_limits import LOG_LIMITS, LogLimits, describe_omission

_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02
_STEP_BYTES: Final = 1024 * 1024
"""How much more of the end is kept, so that a reader who computed its start still finds it."""


class BoundedFileHandler(logging.FileHandler):
    """Appends to a file, and frees the space of its middle when it exceeds the limits.

    Where the file system cannot do that, only warnings and errors are appended beyond the limits.
    """

    def __init__(self, path: Path, *, limits: LogLimits = LOG_LIMITS) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._limits = limits
        self._step_bytes = min(_STEP_BYTES, limits.tail_bytes)
        self._freed_until = limits.head_bytes
        self._can_free = True

    def emit(self, record: logging.LogRecord) -> None:
        """Append a record."""
        if self._can_free or record.levelno >= logging.WARNING:
            super().emit(record)
        if self._can_free:
            self._free_middle()

    def _free_middle(self) -> None:
        file = self.stream
        if file is None:
            return
        freed_until = os.fstat(file.fileno()).st_size - self._limits.tail_bytes - self._step_bytes
        if freed_until - self._freed_until < self._step_bytes:
            return
        try:
            punch_hole(Path(self.baseFilename), self._limits.head_bytes, freed_until)
        except OSError:
            self._can_free = False
            file.write("From here on, this log has only warnings and errors: it is too long.\n")
            file.flush()
        self._freed_until = freed_until


def punch_hole(path: Path, start: int, end: int) -> None:
    """Free the space from `start` to `end` of a file, and write there how much it was.

    Raises `OSError` if the file system cannot do that.
    """
    note = f"\n{describe_omission(end - start)}".encode()
    # Not with O_APPEND, which lets Linux append at the end whatever the position is.
    file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _fallocate(file, _PUNCH_HOLE | _KEEP_SIZE, start, end - start)
        os.pwrite(file, note, start)
    finally:
        os.close(file)


def _fallocate(file: int, mode: int, offset: int, length: int) -> None:
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError) as error:
        raise OSError("this system has no fallocate") from error
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(file, mode, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
