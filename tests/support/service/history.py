"""A history of many runs, with everything that real ones leave, written by SQL within a minute.

Runs come in tens: a baseline, a distilled run, its report, an evaluation, four trials of a sweep, a
single run, and a second distilled run with the same baseline. The newest runs are queued, those
before them run, and all others are over. Every hundredth ten is equal to what `make_bckd_spec` of
the project `PROJECT` gives; the others have digests of their own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text

from configs.catalog import parse_spec
from configs.metric_keys import Metric
from configs.protocol.comparison import Comparison, Difference
from configs.spec.autopilot import AutopilotBudget, AutopilotSpec
from configs.spec.jobs import ReportSpec
from configs.spec.sweep import SweepSpec
from service.domain.autopilot.autopilots import Autopilot, AutopilotPhase
from service.domain.baselines import with_digests
from service.domain.runs import Run
from service.domain.states import RunState
from service.domain.sweeps import Sweep, SweepState
from service.store.database import Database
from tests.support.factories import NO_HASH, make_bckd_spec, make_run, make_spec

PROJECT = "p3"
RARE_PROJECT = "rare"
"""A project of ten old runs."""

RARE_TAG = ("campaign", "rare")
"""A tag of ten old runs."""

_FIRST_S = 1_700_000_000
_MANY_RUNS = 10_000
"""With more runs, indexes are made after the rows, which takes a third of the time."""

_RUN, _BASELINE = "r" + "0" * 12, "r" + "1" * 12
"""In the template of a comparison, the ids of the run and of its baseline."""

_ROLES = ("baseline", "distilled", "report", "evaluation", "trial", "single")


@dataclass(frozen=True)
class History:
    """The numbers of runs."""

    runs: int
    queued: int = 20
    running: int = 10


def make_run_id(number: int) -> str:
    """The id of the run with a number, counted from 1; in another order than the numbers."""
    return f"r{number * 387420489 % 10**12:012}"


def list_running_ids(history: History) -> list[str]:
    """The ids of the running runs."""
    last = history.runs - history.queued
    return [make_run_id(number) for number in range(last - history.running + 1, last + 1)]


@dataclass(frozen=True)
class _Dialect:
    """SQL that SQLite and PostgreSQL write differently."""

    is_sqlite: bool

    def numbers(self, count: int) -> str:
        """A common table expression `n` with a column `i` from 1 to `count`."""
        if self.is_sqlite:
            step = f"SELECT i + 1 FROM n WHERE i < {count}"
            return f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL {step})"
        return f"WITH n(i) AS (SELECT CAST(generate_series(1, {count}) AS bigint))"

    def padded(self, number: str, digits: int) -> str:
        if self.is_sqlite:
            return f"printf('%0{digits}d', {number})"
        return f"lpad(CAST({number} AS text), {digits}, '0')"

    def time(self, seconds: str) -> str:
        if self.is_sqlite:
            at = f"{_FIRST_S} + {seconds}, 'unixepoch'"
            return f"strftime('%Y-%m-%d %H:%M:%S.000000', {at})"
        return f"to_timestamp({_FIRST_S} + {seconds})"

    def duration(self, start: str, end: str) -> str:
        if self.is_sqlite:
            return f"(julianday({end}) - julianday({start})) * 86400.0"
        return f"extract(epoch FROM {end} - {start})"

    def run_id(self, number: str) -> str:
        """Ids in another order than the numbers, as random ones have."""
        return f"'r' || {self.padded(f'(({number}) * 387420489) % 1000000000000', 12)}"


def fill_history(url: str, history: History) -> None:
    """Add the runs to a database with the newest schema and without runs."""
    _insert_templates(url)
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _speed_up)
    sql = _Dialect(engine.dialect.name == "sqlite")
    with (
        engine.begin() as connection,
        _without_indexes(connection, is_needed=history.runs > _MANY_RUNS),
    ):
        for statement in _list_statements(connection, history, sql):
            connection.execute(text(statement))
    if not sql.is_sqlite:
        _analyze(engine)
    engine.dispose()


def _speed_up(connection: Any, _record: object) -> None:
    for pragma in ("synchronous = OFF", "cache_size = -200000", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _insert_templates(url: str) -> None:
    """One run of each role, whose columns the runs of the history have unless they differ."""
    database = Database(url)
    with database.transaction() as uow:
        for run in _make_templates():
            uow.runs.add(run)
        weight = {"kind": "loguniform", "low": 0.1, "high": 10.0}
        spec = {"base": make_bckd_spec(), "space": {"distillation.cls_weight": weight}}
        uow.sweeps.add(_make_sweep(SweepSpec.model_validate(spec)))
        uow.autopilots.add(_make_autopilot())
    database.close()


def _make_templates() -> Iterator[Run]:
    specs: dict[str, Any] = {
        "baseline": parse_spec(make_spec()),
        "distilled": parse_spec(make_bckd_spec()),
        "report": ReportSpec(run="r" + "0" * 12, tags={}),
        "trial": parse_spec(make_bckd_spec(seed=5)),
        "single": parse_spec(make_spec(seed=7)),
        "evaluation": parse_spec(make_spec(seed=9)),
    }
    for role in _ROLES:
        run = make_run(id=f"t{role}", name=f"a {role}", spec=specs[role], state=RunState.SUCCEEDED)
        yield with_digests(run, dataset_digest=NO_HASH)


def _make_sweep(spec: SweepSpec) -> Sweep:
    now = make_run().created_at
    return Sweep(
        id="stemplate",
        name="a sweep",
        preset=None,
        spec=spec,
        state=SweepState.SUCCEEDED,
        created_at=now,
        updated_at=now,
        created_by="user",
        mlflow_synced=True,
    )


def _make_autopilot() -> Autopilot:
    now = make_run().created_at
    return Autopilot(
        id="atemplate",
        name="an autopilot",
        preset=None,
        spec=AutopilotSpec(
            base=parse_spec(make_bckd_spec()),
            teachers=("big",),
            students=("resnet18",),
            budget=AutopilotBudget(hours=1.0),
        ),
        phase=AutopilotPhase.SUCCEEDED,
        created_at=now,
        updated_at=now,
        created_by="user",
    )


def _list_statements(connection: Connection, history: History, sql: _Dialect) -> Iterator[str]:
    columns = _list_columns(connection, "runs")
    yield "CREATE TABLE run_templates AS SELECT * FROM runs"
    yield "CREATE TABLE sweep_templates AS SELECT * FROM sweeps"
    yield "CREATE TABLE autopilot_templates AS SELECT * FROM autopilots"
    for table in ("run_tags", "run_counts", "runs", "sweeps", "autopilots"):
        yield f"DELETE FROM {table}"
    runs = _run_values(history, sql)
    role = f"CASE i % 10 {_list_roles()} END"
    over = history.runs - _count_active(history)
    role = f"CASE WHEN i < 10 OR i > {over} THEN 'single' ELSE {role} END"
    yield (
        f"{sql.numbers(history.runs)} INSERT INTO runs ({', '.join(columns)}) "
        f"SELECT {_select(columns, runs)} "
        f"FROM n CROSS JOIN run_templates AS t WHERE t.id = 't' || {role} ORDER BY i"
    )
    for table in ("sweep", "autopilot"):
        values = {
            "id": f"'{table[0]}' || {sql.padded('i', 12)}",
            "sequence": "i",
            "project": "'p' || (i % 20)",
            "created_at": sql.time("i"),
        }
        columns = _list_columns(connection, f"{table}s")
        yield (
            f"{sql.numbers(max(1, history.runs // 100))} INSERT INTO {table}s "
            f"({', '.join(columns)}) "
            f"SELECT {_select(columns, values)} FROM n CROSS JOIN {table}_templates AS t"
        )
    yield "DROP TABLE autopilot_templates"
    yield "DROP TABLE run_templates"
    yield "DROP TABLE sweep_templates"
    yield from _list_dependents(sql)
    yield from _list_totals(sql)


def _list_columns(connection: Connection, table: str) -> list[str]:
    return list(connection.execute(text(f"SELECT * FROM {table} LIMIT 0")).keys())


def _select(columns: list[str], values: Mapping[str, str]) -> str:
    return ", ".join(values.get(column, f"t.{column}") for column in columns)


def _list_roles() -> str:
    of_digit = ("baseline", "distilled", "report", "evaluation", *["trial"] * 4, "single")
    cases = [f"WHEN {digit} THEN '{role}'" for digit, role in enumerate(of_digit)]
    return " ".join((*cases, "ELSE 'distilled'"))


def _count_active(history: History) -> int:
    return history.queued + history.running


def _run_values(history: History, sql: _Dialect) -> dict[str, str]:
    """The values of columns of runs that differ from the template `t`, with the number `i`."""
    over = history.runs - _count_active(history)
    is_lost = "(i / 10) % 50 = 7"
    is_equal = "(i / 10) % 100 = 3"
    distilled = f"t.id = 'tdistilled' AND i <= {over}"
    state = f"""CASE WHEN i > {history.runs - history.queued} THEN 'queued'
      WHEN i > {over} THEN 'running'
      WHEN t.id = 'tbaseline' AND {is_lost} THEN 'failed'
      WHEN t.id = 'tsingle' AND (i / 10) % 4 = 0 THEN 'failed'
      WHEN i % 10 = 7 AND (i / 10) % 4 = 1 THEN 'cancelled' ELSE 'succeeded' END"""
    has_map = f"({state}) = 'succeeded' AND t.id <> 'treport'"
    digests = {
        name: f"CASE WHEN {is_equal} OR t.{name} IS NULL THEN t.{name} "
        f"ELSE {sql.padded(f'(i / 10) % {modulus} * 10 + i % 10', 64)} END"
        for name, modulus in (
            ("spec_digest", 100_000),
            ("seedless_digest", 20_000),
            ("seed_group_key", 2_000),
            ("teacher_key", 200),
        )
    }
    first_of_ten = "i - i % 10"
    return digests | {
        "id": sql.run_id("i"),
        "sequence": "i",
        "name": "'run ' || i",
        "preset": "CASE WHEN i % 10 < 3 THEN 'x' || ((i / 10) % 50) END",
        "task": "CASE t.id WHEN 'treport' THEN 'report' WHEN 'tevaluation' THEN 'evaluate' "
        "ELSE 'train' END",
        "dataset": "CASE WHEN t.id <> 'treport' THEN 'd' || ((i / 10) % 10) END",
        "project": f"CASE WHEN i / 10 = 1 THEN '{RARE_PROJECT}' ELSE 'p' || ((i / 10) % 20) END",
        "state": state,
        "attempt": f"CASE WHEN i > {history.runs - history.queued} THEN 0 ELSE 1 END",
        "best_map": f"CASE WHEN {has_map} THEN (i * 7919 % 100000) / 100000.0 END",
        "best_epoch": f"CASE WHEN {has_map} THEN 2 END",
        "latest": f"CASE WHEN {distilled} "
        f"THEN '{{\"{Metric.TEACHER_MAP}\": 0.4}}' ELSE '{{}}' END" + _as_json(sql),
        "teacher_map": f"CASE WHEN {distilled} THEN 0.4 END",
        "created_at": sql.time("i * 10"),
        "updated_at": sql.time("i * 10 + 5"),
        "started_at": sql.time("i * 10 + 1"),
        "finished_at": f"CASE WHEN i <= {over} THEN {sql.time('i * 10 + 5')} END",
        "mlflow_run_id": f"CASE WHEN i <= {over} THEN 'm' || i END",
        "mlflow_synced": "true",
        "baseline_run_id": f"CASE WHEN {distilled} THEN {sql.run_id(first_of_ten)} END",
        "is_baseline_lost": f"{distilled} AND {is_lost}",
        "comparison_revision": "NULL",
        "report_run_id": f"CASE WHEN {distilled} AND NOT {is_lost} "
        f"THEN {sql.run_id(f'{first_of_ten} + 2')} END",
        "is_report_read": "t.id = 'treport'",
        "sweep_id": f"CASE WHEN t.id = 'ttrial' THEN 's' || {sql.padded('1 + i / 100', 12)} END",
        "trial": "CASE WHEN t.id = 'ttrial' THEN i % 100 END",
    }


def _as_json(sql: _Dialect) -> str:
    return "" if sql.is_sqlite else "::json"


def _list_dependents(sql: _Dialect) -> Iterator[str]:
    """Tags, attempts, events, points, comparisons, keys and audit entries of all runs."""
    is_old = "sequence BETWEEN 10 AND 19"
    for key, value, condition in (
        ("team", "'t' || (sequence % 7)", "true"),
        ("experiment", "'e' || (sequence / 50)", "true"),
        (RARE_TAG[0], f"'{RARE_TAG[1]}'", is_old),
    ):
        yield f"""INSERT INTO run_tags (run_id, key, value, project, sequence, best_map)
          SELECT id, '{key}', {value}, project, sequence, best_map FROM runs WHERE {condition}"""
    is_over = "state IN ('succeeded', 'failed', 'cancelled')"
    reason = "CASE WHEN state = 'failed' THEN 'nan_loss' END"
    yield f"""INSERT INTO attempts (run_id, number, submission_id, created_at, processes, num_cpus,
        num_gpus, ended_at, exit_code, reason, message)
      SELECT id, 1, id || '-a1', {sql.time("sequence * 10 + 1")}, 1, 2, 1,
        CASE WHEN {is_over} THEN {sql.time("sequence * 10 + 5")} END, 0, {reason}, ''
      FROM runs WHERE attempt > 0"""
    kinds = (
        ("launched", "NULL", "'queued'", "true"),
        ("state_changed", "'queued'", "'starting'", "attempt > 0"),
        ("state_changed", "'starting'", "'running'", "attempt > 0"),
        ("state_changed", "'running'", "state", is_over),
    )
    for kind, from_state, to_state, condition in kinds:
        yield f"""INSERT INTO events
            (run_id, project, at, actor, kind, details, from_state, to_state)
          SELECT id, project, {sql.time("sequence * 10 + 2")}, 'service', '{kind}', 'It is so.',
            {from_state}, {to_state} FROM runs WHERE {condition} ORDER BY sequence"""
    for key, step in (("train/loss", 10), ("train/loss", 20), ("val/bbox_mAP", 20)):
        yield f"""INSERT INTO metric_points (run_id, key, step, value, at)
          SELECT id, '{key}', {step}, 0.5, updated_at FROM runs
          WHERE task = 'train' AND state <> 'queued'"""
    document = _make_comparison().model_dump_json().replace(":", "\\:")
    with_ids = f"replace('{document}', '{_RUN}', id)"
    with_ids = f"replace({with_ids}, '{_BASELINE}', baseline_run_id)"
    yield f"""INSERT INTO comparisons (run_id, document, at, mlflow_synced)
      SELECT id, {with_ids}, updated_at, true FROM runs
      WHERE report_run_id IS NOT NULL"""
    yield f"""INSERT INTO idempotency_keys (key, request_digest, resource_id)
      SELECT 'key-' || sequence, '{NO_HASH}', id FROM runs WHERE sequence % 3 = 0"""
    yield """INSERT INTO audit (at, actor, method, path, status, request_id, address, run_id)
      SELECT created_at, 'user', 'POST', '/v1/runs', 201, 'q' || sequence, '127.0.0.1', id
      FROM runs ORDER BY sequence"""


def _make_comparison() -> Comparison:
    return Comparison(
        runs=(_RUN,),
        baselines=(_BASELINE,),
        parts={"bbox_mAP": Difference(run=0.33, baseline=0.3, difference=0.03)},
        verdict="cannot_tell",
        seed_spread="unknown",
        basis="one pair",
    )


def _list_totals(sql: _Dialect) -> Iterator[str]:
    yield """INSERT INTO run_counts (state, project, runs)
      SELECT state, project, count(*) FROM runs GROUP BY state, project"""
    cpu_s = f"{sql.duration('a.created_at', 'a.ended_at')} * a.processes"
    yield f"""INSERT INTO attempt_totals (project, reason, attempts, cpu_s, gpu_s)
      SELECT r.project, coalesce(a.reason, ''), count(*), sum({cpu_s} * a.num_cpus),
        sum({cpu_s} * a.num_gpus)
      FROM attempts AS a JOIN runs AS r ON r.id = a.run_id
      WHERE a.ended_at IS NOT NULL GROUP BY r.project, coalesce(a.reason, '')"""


@contextmanager
def _without_indexes(connection: Connection, *, is_needed: bool) -> Iterator[None]:
    """Drop all indexes but those of constraints, and make them again at the end."""
    indexes: dict[str, str] = {}
    if is_needed:
        query = (
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
            if connection.dialect.name == "sqlite"
            else "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
            "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        )
        indexes = {row[0]: row[1] for row in connection.execute(text(query))}
    for name in indexes:
        connection.execute(text(f"DROP INDEX {name}"))
    yield
    for definition in indexes.values():
        connection.exec_driver_sql(definition)


def _analyze(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
