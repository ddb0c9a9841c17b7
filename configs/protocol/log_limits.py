"""The largest size of an attempt's log: of a longer one, only the beginning and the end are kept.

Offsets count all bytes that were written, also those that are left out.
"""

from dataclasses import dataclass
from typing import Final

_MIB = 2**20


@dataclass(frozen=True)
class LogLimits:
    """How much is kept of the beginning and of the end of a log, in bytes."""

    head_bytes: int = 16 * _MIB
    tail_bytes: int = 16 * _MIB

    def skip_omitted(self, offset: int, *, size_bytes: int) -> int:
        """The offset at which a reader of a log of `size_bytes` continues: that of the end that is
        kept if `offset` is in the part that is left out, else `offset`."""
        tail_start = size_bytes - self.tail_bytes
        return tail_start if self.head_bytes <= offset < tail_start else offset


LOG_LIMITS: Final = LogLimits()


def describe_omission(num_bytes: int) -> str:
    """A line that stands where `num_bytes` of a log were left out."""
    return f"[{num_bytes:,} bytes of this log were left out here]\n"
