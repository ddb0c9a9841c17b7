"""Standard output and error that take any text, whatever the terminal's encoding."""

import io
import sys


def escape_unprintable() -> None:
    """Write characters that the encoding lacks as escapes, e.g. `\\u732b`; by default they raise.

    Names of files contain half a surrogate for each byte that is not UTF-8, which no encoding has.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
