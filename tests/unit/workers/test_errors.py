"""Errors in a line."""

import pytest

from workers.errors import summarize_error


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "CUDA error: no kernel image\nCUDA kernel errors might be ...",
            "CUDA error: no kernel image",
        ),
        ("\n  the first line\nthe second", "the first line"),
        ("x" * 301, "x" * 300),
        (" \n", "ValueError"),
        ("", "ValueError"),
    ],
    ids=["several lines", "blank first line", "long", "blank", "empty"],
)
def test_an_error_is_summarized_in_a_line(message: str, expected: str) -> None:
    assert summarize_error(ValueError(message)) == expected
