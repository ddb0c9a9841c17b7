"""Rows for every table of a database, whatever its revision: new tables come in by themselves."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON as Json
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    insert,
    select,
)
from sqlalchemy.types import TypeEngine

from tests.support.factories import a_detector_spec, a_manifest, a_spec

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
VERSION_TABLE = "alembic_version"
_MEANT: dict[str, tuple[Any, ...]] = {
    "runs.id": ("r00000000000a", "r00000000000b"),
    "runs.name": ("an ünusual name", "a\nline\tand 'quotes' \\"),
    "runs.spec": (json.dumps(a_spec()), json.dumps(a_spec(seed=1))),
    "runs.tags": ({"team": "größe", "by": "a"}, {}),
    "runs.task": ("train", "train"),
    "runs.state": ("queued", "failed"),
    "runs.desired": ("run", "cancelled"),
    "runs.reason": (None, "nan_loss"),
    "runs.latest": ({"train/loss": 0.1, "val/bbox_mAP": 1e-17}, {}),
    "runs.progress": (None, None),
    "runs.best_map": (None, 1 / 3),
    "attempts.reason": (None, "oom"),
    "events.kind": ("launched", "state_changed"),
    "events.from_state": (None, "queued"),
    "events.to_state": ("queued", "failed"),
    "events.reason": (None, "nan_loss"),
    "metric_points.value": (1e-300, -2.5),
    "datasets.manifest": (a_manifest().model_dump_json(),) * 2,
    "teachers.detector": (json.dumps(a_detector_spec().model_dump(mode="json")),) * 2,
    "teachers.classes": (["cat", "dog"], []),
}
_MADE_UP: tuple[tuple[type[TypeEngine[Any]], Callable[[int], Any]], ...] = (
    (Boolean, bool),
    (Integer, lambda number: 7 + number),
    (Float, lambda number: 0.25 + number),
    (DateTime, lambda number: NOW + timedelta(days=number)),
    (Json, lambda number: {"n": number}),
    (LargeBinary, lambda number: bytes([0, 255, number])),
)

Rows = dict[str, list[dict[str, Any]]]


def fill(connection: Connection) -> None:
    """Put two rows into every table; what no one has thought of is made up from its type."""
    for table in tables_of(connection):
        rows = [
            {column.name: _value(column, number) for column in table.columns} for number in (0, 1)
        ]
        connection.execute(insert(table), rows)


def rows_of(connection: Connection) -> Rows:
    """Everything that is in the database, times in UTC."""
    return {
        table.name: [
            {name: _as_utc(value) for name, value in row.items()}
            for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
        ]
        for table in tables_of(connection)
    }


def common(one: Rows, other: Rows) -> tuple[Rows, Rows]:
    """The tables and columns that both have."""
    return _only(one, like=other), _only(other, like=one)


def tables_of(connection: Connection) -> list[Table]:
    """The tables as they are, those that others refer to first."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != VERSION_TABLE]


def _only(rows: Rows, *, like: Rows) -> Rows:
    return {
        table: [
            {name: value for name, value in row.items() if name in like[table][0]} for row in found
        ]
        for table, found in rows.items()
        if like.get(table)
    }


def _value(column: Column[Any], number: int) -> Any:
    meant = _MEANT.get(f"{column.table.name}.{column.name}")
    if meant is not None:
        return meant[number]
    for key in column.foreign_keys:
        return _value(key.column, number)
    for kind, made in _MADE_UP:
        if isinstance(column.type, kind):
            return made(number)
    assert isinstance(column.type, String), (
        f"say in tests/support/service/database_rows.py what {column} looks like"
    )
    return f"{column.name[:14]}{number}"[: column.type.length]


def _as_utc(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
