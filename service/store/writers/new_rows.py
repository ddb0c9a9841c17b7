"""New rows of a transaction, which are inserted together: launches share their transactions."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    String,
    bindparam,
    cast,
    event,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import ORMExecuteState, Session

from service.domain.access import NewEntryId
from service.store.engine import replace_nuls
from service.store.tables import Base, get_table

Row = dict[str, Any]
Values = dict[str, ColumnElement[Any]]

_DOCUMENT = "rows"


class BulkInsert:
    """Inserts any number of rows into a table. Built once, because each launch executes it.

    PostgreSQL gets the rows as one JSON document: it parses and plans a short statement for all of
    them, and the driver converts one parameter.
    """

    def __init__(
        self,
        row: type[Base],
        columns: Sequence[str],
        *,
        compute: Callable[[Values], Values] = lambda _: {},
        returns_id: bool = False,
    ) -> None:
        """`columns` are those that each row gives; `compute` makes others from them."""
        self.table = get_table(row)
        self._columns = columns
        self._compute = compute
        self._returns_id = returns_id

    @cached_property
    def rank(self) -> int:
        """The number of its table among all, above those of the tables that it refers to."""
        return Base.metadata.sorted_tables.index(self.table)

    def execute(self, connection: Connection, rows: Sequence[Row]) -> list[int]:
        """Insert the rows in their order. Returns their ids, or nothing without `returns_id`."""
        if connection.dialect.name == "postgresql":
            parameters = {_DOCUMENT: _to_json(rows)}
            result = connection.execute(self._from_document, parameters)
            # The database numbers them in the order of the document.
            return sorted(result.scalars()) if self._returns_id else []
        if self._returns_id:
            return [connection.execute(self._from_values, row).scalar_one() for row in rows]
        connection.execute(self._from_values, rows)
        return []

    @cached_property
    def _from_document(self) -> Insert:
        record_type: ColumnElement[Any] = literal_column(f"NULL::{self.table.name}")
        document = cast(bindparam(_DOCUMENT, type_=String), JSON)
        records = func.json_populate_recordset(record_type, document)
        new = records.table_valued(*self._columns, name="new")
        return self._insert({name: new.c[name] for name in self._columns})

    @cached_property
    def _from_values(self) -> Insert:
        types = self.table.c
        return self._insert(
            {name: bindparam(name, type_=types[name].type) for name in self._columns}
        )

    def _insert(self, new: Values) -> Insert:
        values = new | self._compute(new)
        statement = insert(self.table).from_select(
            list(values), select(*values.values()), include_defaults=False
        )
        return statement.returning(self.table.c.id) if self._returns_id else statement


@dataclass
class _NewRows:
    """Rows of one table that are not inserted yet."""

    rows: list[Row] = field(default_factory=list)
    ids: list[NewEntryId] = field(default_factory=list)
    """Where their ids belong; empty if nobody asks for them."""


class BatchingSession(Session):
    """Collects new rows, and inserts those of each table together before anything else that it
    executes, so that nothing misses them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting: dict[BulkInsert, _NewRows] = {}

    def insert_later(self, statement: BulkInsert, rows: Sequence[Row]) -> None:
        """Insert the rows before the next statement or the commit, after those of other tables
        that they refer to."""
        if rows:
            self._waiting.setdefault(statement, _NewRows()).rows.extend(rows)

    def insert_for_id(self, statement: BulkInsert, row: Row) -> NewEntryId:
        """`insert_later` for one row; the id is known once it is inserted."""
        new, entry_id = self._waiting.setdefault(statement, _NewRows()), NewEntryId()
        new.rows.append(row)
        new.ids.append(entry_id)
        return entry_id

    def insert_new_rows(self) -> None:
        """Insert all of them. Called before each statement; call it before the commit."""
        if not self._waiting:
            return
        new, self._waiting = self._waiting, {}
        connection = super().connection()
        for statement in sorted(new, key=lambda statement: statement.rank):
            ids = statement.execute(connection, new[statement].rows)
            for entry_id, value in zip(new[statement].ids, ids, strict=True):
                entry_id.value = value

    def connection(self, *arguments: Any, **options: Any) -> Connection:
        """The connection of the transaction, in which no new row is missing."""
        self.insert_new_rows()
        return super().connection(*arguments, **options)

    def flush(self, *arguments: Any, **options: Any) -> None:
        """Write new rows, then changed objects, which may refer to them."""
        self.insert_new_rows()
        super().flush(*arguments, **options)


@event.listens_for(BatchingSession, "do_orm_execute")
def _insert_before(statement: ORMExecuteState) -> None:
    """Whatever else the session executes: `execute`, `scalar`, `scalars`, `get`, `merge`."""
    session = statement.session
    assert isinstance(session, BatchingSession)
    session.insert_new_rows()


def _to_json(rows: Sequence[Row]) -> str:
    """The rows as a document in which PostgreSQL finds no NUL, which it rejects in text."""
    document = _ENCODER.encode(rows)
    if "\\u0000" not in document:
        return document
    return _ENCODER.encode(replace_nuls(rows))


def _encode_time(value: object) -> str:
    assert isinstance(value, datetime), value
    return value.astimezone(UTC).isoformat()


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_encode_time)
