"""Detectors say their head's kind and no kind of their own; precision is a part of `compute`."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Document = dict[str, Any]


def upgrade() -> None:
    """Take out the words that mean nothing any more; each had one value only."""
    _rewrite("runs", "id", "spec", _spec_without_old_words)
    _rewrite("teachers", "name", "detector", _detector_without_kind)


def downgrade() -> None:
    """Nothing: an older Tandem fills the words in by itself, and refuses what it cannot train."""


def _rewrite(table: str, key: str, column: str, change: Any) -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.text(f"SELECT {key}, {column} FROM {table}")).all()
    for name, text in rows:
        connection.execute(
            sa.text(f"UPDATE {table} SET {column} = :text WHERE {key} = :name"),
            {"text": json.dumps(change(json.loads(text))), "name": name},
        )


def _spec_without_old_words(spec: Document) -> Document:
    spec.pop("precision", None)
    spec["student"] = _detector_without_kind(spec["student"])
    teacher = spec.get("teacher")
    if teacher is not None and "detector" in teacher:
        teacher["detector"] = _detector_without_kind(teacher["detector"])
    return spec


def _detector_without_kind(detector: Document) -> Document:
    detector.pop("kind", None)
    return detector
