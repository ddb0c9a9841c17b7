"""The answer of a search that needs results before it can name the next trial."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wait:
    """Ask again when another trial has ended."""
