"""Metric points in the database."""

from collections.abc import Collection

from sqlalchemy import func, select, tuple_
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from configs.protocol.records import Metrics
from service.domain.ids import split_ids
from service.domain.runs import MetricPoint
from service.store.engine import MAX_IDS
from service.store.tables import MetricPointRow


class SqlMetricPoints:
    """Implements `MetricPoints`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, run_id: str, records: list[Metrics]) -> None:
        rows = [
            {"run_id": run_id, "key": key, "step": record.step, "value": value, "at": record.at}
            for record in records
            for key, value in record.values.items()
        ]
        if rows:
            is_sqlite = self._session.get_bind().dialect.name == "sqlite"
            insert = (
                sqlite_insert(MetricPointRow) if is_sqlite else postgresql_insert(MetricPointRow)
            )
            self._session.execute(insert.on_conflict_do_nothing(), rows)

    def of_run(self, run_id: str, *, key: str | None) -> list[MetricPoint]:
        query = (
            select(MetricPointRow)
            .where(MetricPointRow.run_id == run_id)
            .order_by(MetricPointRow.key, MetricPointRow.step)
        )
        if key is not None:
            query = query.where(MetricPointRow.key == key)
        return [
            MetricPoint(key=row.key, step=row.step, value=row.value, at=row.at)
            for row in self._session.scalars(query)
        ]

    def of_runs(self, run_ids: Collection[str], *, key: str) -> dict[str, list[MetricPoint]]:
        row = MetricPointRow
        query = select(row.run_id, row.key, row.step, row.value, row.at).where(row.key == key)
        points: dict[str, list[MetricPoint]] = {}
        for batch in split_ids(run_ids, size=MAX_IDS):
            of_batch = query.where(row.run_id.in_(batch)).order_by(row.run_id, row.step)
            for run_id, name, step, value, at in self._session.execute(of_batch):
                points.setdefault(run_id, []).append(MetricPoint(name, step, value, at))
        return points

    def page(
        self, run_id: str, *, key: str | None, after: tuple[str, int] | None, limit: int
    ) -> list[MetricPoint]:
        row = MetricPointRow
        query = select(row.key, row.step, row.value, row.at).where(row.run_id == run_id)
        if key is not None:
            query = query.where(row.key == key)
        if after is not None:
            query = query.where(tuple_(row.key, row.step) > after)
        query = query.order_by(row.key, row.step).limit(limit)
        return [MetricPoint(*values) for values in self._session.execute(query)]

    def means_of_run(self, run_id: str, *, prefix: str, every_steps: int) -> list[MetricPoint]:
        interval = (MetricPointRow.step - 1) // every_steps
        last_step = func.max(MetricPointRow.step)
        query = (
            select(
                MetricPointRow.key,
                last_step,
                func.avg(MetricPointRow.value),
                func.max(MetricPointRow.at),
            )
            .where(
                MetricPointRow.run_id == run_id,
                MetricPointRow.key.startswith(prefix, autoescape=True),
            )
            .group_by(MetricPointRow.key, interval)
            .order_by(MetricPointRow.key, last_step)
        )
        return [
            MetricPoint(key=key, step=step, value=mean, at=at)
            for key, step, mean, at in self._session.execute(query)
        ]
