"""Findings about the tags of a run or a sweep."""

from collections.abc import Iterator, Mapping

from configs.spec.base import is_printable
from service.domain.planning.findings import Finding, error

_RESERVED_PREFIXES = ("tandem.", "mlflow.")
"""MLflow shows tags of these names as facts: the verdict, the run's id, its user, its parent."""


def tag_findings(tags: Mapping[str, str]) -> Iterator[Finding]:
    """Check for reserved names, and for values that a terminal or a page would not show as they
    are. Stored specs may have both."""
    for name, value in tags.items():
        if name.startswith(_RESERVED_PREFIXES):
            yield error(
                f"tags.{name}",
                "reserved_tag",
                f"Tags whose names begin with {' or '.join(_RESERVED_PREFIXES)} are set by Tandem "
                "and MLflow themselves; choose another name.",
            )
        if not is_printable(value):
            yield error(f"tags.{name}", "not_printable", "It has control characters.")
