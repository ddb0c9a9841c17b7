"""No query, loop or page costs more with a longer history.

A cost is the number of operations of SQLite's virtual machine, or of the rows that PostgreSQL
reads, so it does not depend on how fast a machine is. Every method of a repository has to be in
`CALLS`: a query that scans a table fails here.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from inspect import isfunction
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from sqlalchemy import text

from configs.catalog import parse_spec
from configs.metric_keys import Metric
from configs.protocol.records import Metrics
from service.domain.access import AuditEntry, Token
from service.domain.autopilot.autopilots import UNFINISHED_PHASES, AutopilotJob, AutopilotPhase
from service.domain.autopilot.history import AutopilotCancellation
from service.domain.baselines import with_digests
from service.domain.repositories.autopilots import AutopilotFilter
from service.domain.repositories.baselines import StoredComparison
from service.domain.repositories.idempotency import IdempotencyKey
from service.domain.repositories.sweeps import SweepFilter
from service.domain.runs import Attempt, Event, Run
from service.domain.scheduling.projects import Project
from service.domain.states import ACTIVE_STATES, RunState
from service.domain.sweeps import UNFINISHED_SWEEP_STATES, SweepState
from service.domain.vocabulary import EventKind, Role
from service.loops.comparisons import compare_baselines
from service.store.database import Database, SqlUnitOfWork
from tests.support.factories import NO_HASH, make_bckd_spec, make_run
from tests.support.service.history import PROJECT, History, fill_history, make_run_id
from tests.support.service.postgres import Postgres
from tests.support.service.sqlite_operations import count_operations
from tests.support.service.stage import Stage, migrated_sqlite, open_stage

SIZES = (400, 4000)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

MAX_GROWTH = 1.3
"""Indexes become deeper with more rows, which costs SQLite no more operations."""


@dataclass(frozen=True)
class Ids:
    """Some newest rows of a history; those of two histories have equal neighbors."""

    history: History

    @property
    def first_of_ten(self) -> int:
        """The number of the baseline among the newest ten runs that are all over."""
        return self.history.runs - self.history.queued - self.history.running - 10

    @property
    def baseline(self) -> str:
        return make_run_id(self.first_of_ten)

    @property
    def distilled(self) -> str:
        return make_run_id(self.first_of_ten + 1)

    @property
    def running(self) -> str:
        return make_run_id(self.history.runs - self.history.queued)

    @property
    def queued(self) -> str:
        return make_run_id(self.history.runs)

    @property
    def sweep(self) -> str:
        return f"s{self.history.runs // 100 - 1:012}"

    @property
    def autopilot(self) -> str:
        return f"a{self.history.runs // 100 - 1:012}"


def equal_run() -> Run:
    """A run that a hundredth of a history is equal to."""
    return with_digests(make_run(spec=make_bckd_run().spec), dataset_digest=NO_HASH)


def make_bckd_run(**changes: Any) -> Run:
    return make_run(spec=parse_spec(make_bckd_spec(**changes)))


def save_over(uow: SqlUnitOfWork, ids: Ids) -> None:
    """The end of a run, which changes totals and comparisons."""
    run = uow.runs.get_for_update(ids.running)
    uow.runs.save(replace(run, state=RunState.SUCCEEDED, finished_at=NOW))


def add_new_run(uow: SqlUnitOfWork, ids: Ids) -> None:
    tagged = make_bckd_run(tags={"team": "t1", "campaign": "rare"})
    lineage = replace(equal_run().lineage, baseline_run_id=ids.baseline)
    uow.runs.lock_inserts()
    uow.runs.add(replace(tagged, id="rnew", lineage=lineage))


def end_attempt(uow: SqlUnitOfWork, ids: Ids) -> None:
    attempt = uow.attempts.get(ids.running, 1)
    assert attempt is not None
    uow.attempts.save(replace(attempt, ended_at=NOW))


def add_event(uow: SqlUnitOfWork, run_id: str) -> None:
    uow.events.add(Event(run_id, NOW, "user", EventKind.NOTE, "It is so."))


def put_comparison(uow: SqlUnitOfWork, ids: Ids) -> StoredComparison:
    comparison = uow.comparisons.of_runs([ids.distilled])[ids.distilled]
    stored = StoredComparison(ids.distilled, comparison, NOW)
    uow.comparisons.put(stored)
    return stored


def read_seedless(uow: SqlUnitOfWork, ids: Ids) -> tuple[str, str]:
    run = uow.runs.get(ids.distilled)
    return run.lineage.seedless_digest or "", run.project


def read_group(uow: SqlUnitOfWork, ids: Ids) -> tuple[str, str]:
    run = uow.runs.get(ids.distilled)
    return run.lineage.seed_group_key or "", run.project


def find_pairs(uow: SqlUnitOfWork, ids: Ids) -> object:
    digest, project = read_seedless(uow, ids)
    return [
        uow.baselines.find_pairs(digest, project=project, are_over=are_over)
        for are_over in (True, False)
    ]


def find_changed_runs(uow: SqlUnitOfWork, ids: Ids) -> object:
    save_over(uow, ids)
    changed = uow.baselines.find_changed()
    assert list(changed) == [ids.running]
    return changed


def list_pages_of_sweeps(uow: SqlUnitOfWork, ids: Ids) -> object:
    filters: tuple[dict[str, Any], ...] = (
        *({}, {"project": "p1"}, {"state": SweepState.SUCCEEDED}, {"state": SweepState.FAILED}),
        *({"project": "p1", "state": SweepState.FAILED}, {"project": "none"}),
        *({"id_prefix": "s"}, {"id_prefix": ids.sweep}, {"before": ids.sweep}),
    )
    return [uow.sweeps.page(SweepFilter(limit=3, **fields)) for fields in filters]


def list_pages_of_autopilots(uow: SqlUnitOfWork, ids: Ids) -> object:
    filters: tuple[dict[str, Any], ...] = (
        *({}, {"project": "p1"}, {"phase": AutopilotPhase.SUCCEEDED}),
        *({"phase": AutopilotPhase.FAILED}, {"project": "p1", "phase": AutopilotPhase.FAILED}),
        *({"id_prefix": "a"}, {"id_prefix": ids.autopilot}, {"before": ids.autopilot}),
    )
    return [uow.autopilots.page(AutopilotFilter(limit=3, **fields)) for fields in filters]


def add_autopilot_job(uow: SqlUnitOfWork, ids: Ids) -> None:
    uow.autopilots.add_job(ids.autopilot, AutopilotJob("probe.resnet18", ids.baseline))
    assert uow.autopilots.jobs(ids.autopilot)


def append_entries(uow: SqlUnitOfWork, ids: Ids) -> None:
    uow.autopilots.append(ids.autopilot, [AutopilotCancellation()], first=0)
    assert uow.autopilots.entries(ids.autopilot)


def list_pages_of_events(uow: SqlUnitOfWork, ids: Ids) -> object:
    last = uow.events.last_id()
    pages = [(None, None), (ids.baseline, None), (None, "p1"), (None, "rare"), (None, "none")]
    return [
        uow.events.after(after, run_id=run_id, project=project, limit=5)
        for run_id, project in pages
        for after in (0, last - 5)
    ]


def lease(uow: SqlUnitOfWork, owner: str) -> object:
    until = NOW + timedelta(seconds=30)
    return uow.runs.lease(*ACTIVE_STATES, owner=owner, now=NOW, until=until, limit=1000)


def lease_and_release(uow: SqlUnitOfWork, ids: Ids) -> None:
    lease(uow, "a")
    uow.runs.release("a")


def mark_compared(uow: SqlUnitOfWork, ids: Ids) -> None:
    save_over(uow, ids)
    uow.baselines.mark_compared(uow.baselines.find_changed())


def find_affected(uow: SqlUnitOfWork, ids: Ids, find: Callable[[], list[Run]]) -> list[Run]:
    save_over(uow, ids)
    return find()


CALLS: dict[str, Callable[[SqlUnitOfWork, Ids], object]] = {
    "runs.lock_inserts": lambda uow, ids: uow.runs.lock_inserts(),
    "runs.add": add_new_run,
    "runs.get": lambda uow, ids: uow.runs.get(ids.baseline),
    "runs.get_for_update": lambda uow, ids: uow.runs.get_for_update(ids.baseline),
    "runs.leased_by": lambda uow, ids: uow.runs.leased_by("a", *ACTIVE_STATES),
    "runs.page_by_id": lambda uow, ids: uow.runs.page_by_id(after=ids.baseline, limit=5),
    "runs.find_existing": lambda uow, ids: uow.runs.find_existing([ids.baseline, "rnone"]),
    "runs.running_in_mlflow": lambda uow, ids: uow.runs.running_in_mlflow(),
    "runs.queue_states": lambda uow, ids: uow.runs.queue_states(),
    "runs.queued": lambda uow, ids: uow.runs.queued([ids.queued]),
    "runs.states_of": lambda uow, ids: uow.runs.states_of([ids.baseline]),
    "runs.queue_position": lambda uow, ids: uow.runs.queue_position(uow.runs.get(ids.queued)),
    "runs.set_waiting_for": lambda uow, ids: uow.runs.set_waiting_for({ids.queued: "1 GPU"}),
    "runs.lease": lambda uow, ids: lease(uow, "a"),
    "runs.release": lease_and_release,
    "runs.save": save_over,
    "runs.in_states": lambda uow, ids: uow.runs.in_states(RunState.QUEUED, RunState.RUNNING),
    "runs.of_pack": lambda uow, ids: uow.runs.of_pack("p" + "0" * 12),
    "runs.of_sweep": lambda uow, ids: [
        uow.runs.of_sweep(ids.sweep),
        uow.runs.of_sweep(ids.sweep, trials=[4, 5]),
    ],
    "runs.not_synced": lambda uow, ids: uow.runs.not_synced(),
    "autopilots.lock_inserts": lambda uow, ids: uow.autopilots.lock_inserts(),
    "autopilots.add": lambda uow, ids: uow.autopilots.add(
        replace(uow.autopilots.get(ids.autopilot), id="anew")
    ),
    "autopilots.get": lambda uow, ids: uow.autopilots.get(ids.autopilot),
    "autopilots.get_for_update": lambda uow, ids: uow.autopilots.get_for_update(ids.autopilot),
    "autopilots.save": lambda uow, ids: uow.autopilots.save(
        replace(uow.autopilots.get_for_update(ids.autopilot), phase=AutopilotPhase.FAILED)
    ),
    "autopilots.page": list_pages_of_autopilots,
    "autopilots.in_phases": lambda uow, ids: uow.autopilots.in_phases(*UNFINISHED_PHASES),
    "autopilots.entries": lambda uow, ids: uow.autopilots.entries(ids.autopilot),
    "autopilots.append": append_entries,
    "autopilots.jobs": lambda uow, ids: uow.autopilots.jobs(ids.autopilot),
    "autopilots.add_job": add_autopilot_job,
    "sweeps.lock_inserts": lambda uow, ids: uow.sweeps.lock_inserts(),
    "sweeps.add": lambda uow, ids: uow.sweeps.add(replace(uow.sweeps.get(ids.sweep), id="snew")),
    "sweeps.get": lambda uow, ids: uow.sweeps.get(ids.sweep),
    "sweeps.find": lambda uow, ids: uow.sweeps.find(ids.sweep),
    "sweeps.get_for_update": lambda uow, ids: uow.sweeps.get_for_update(ids.sweep),
    "sweeps.save": lambda uow, ids: uow.sweeps.save(
        replace(uow.sweeps.get_for_update(ids.sweep), state=SweepState.FAILED)
    ),
    "sweeps.page": list_pages_of_sweeps,
    "sweeps.in_states": lambda uow, ids: uow.sweeps.in_states(*UNFINISHED_SWEEP_STATES),
    "sweeps.not_synced": lambda uow, ids: uow.sweeps.not_synced(),
    "sweeps.entries": lambda uow, ids: uow.sweeps.entries(ids.sweep),
    "sweeps.new_entries": lambda uow, ids: uow.sweeps.new_entries({ids.sweep: 0}),
    "sweeps.append": lambda uow, ids: uow.sweeps.append(ids.sweep, [], first=0),
    "sweeps.length": lambda uow, ids: uow.sweeps.length(ids.sweep),
    "idempotency_keys.lock": lambda uow, ids: uow.idempotency_keys.lock(),
    "idempotency_keys.find": lambda uow, ids: uow.idempotency_keys.find("key-3"),
    "idempotency_keys.add": lambda uow, ids: uow.idempotency_keys.add(
        IdempotencyKey("new", NO_HASH, ids.queued)
    ),
    "attempts.add": lambda uow, ids: uow.attempts.add(
        Attempt(ids.queued, 1, f"{ids.queued}-a1", NOW)
    ),
    "attempts.save": end_attempt,
    "attempts.get": lambda uow, ids: uow.attempts.get(ids.baseline, 1),
    "attempts.of_run": lambda uow, ids: uow.attempts.of_run(ids.baseline),
    "attempts.of_runs": lambda uow, ids: uow.attempts.of_runs([ids.baseline, ids.distilled]),
    "attempts.newest_of_runs": lambda uow, ids: uow.attempts.newest_of_runs([ids.baseline]),
    "attempts.of_sweep": lambda uow, ids: uow.attempts.of_sweep(ids.sweep),
    "attempts.by_submission": lambda uow, ids: uow.attempts.by_submission(f"{ids.baseline}-a1"),
    "attempts.of_pack": lambda uow, ids: uow.attempts.of_pack("p" + "0" * 12),
    "attempts.current": lambda uow, ids: uow.attempts.current(),
    "attempts.ended_since": lambda uow, ids: uow.attempts.ended_since(NOW),
    "events.add": lambda uow, ids: add_event(uow, ids.baseline),
    "events.add_to_runs": lambda uow, ids: uow.events.add_to_runs(
        [ids.baseline, ids.queued], at=NOW, actor="user", kind=EventKind.NOTE, details="It is so."
    ),
    "events.of_run": lambda uow, ids: uow.events.of_run(ids.baseline),
    "events.after": list_pages_of_events,
    "events.new": lambda uow, ids: uow.events.new(
        uow.events.last_id() - 5, skipped=[3, 4], limit=5
    ),
    "events.ids_between": lambda uow, ids: uow.events.ids_between(3, 8),
    "events.last_transitions": lambda uow, ids: uow.events.last_transitions([ids.baseline]),
    "events.last_id": lambda uow, ids: uow.events.last_id(),
    "metric_points.add": lambda uow, ids: uow.metric_points.add(
        ids.running, [Metrics(at=NOW, attempt=1, step=99, values={"train/loss": 0.1})]
    ),
    "metric_points.of_run": lambda uow, ids: [
        uow.metric_points.of_run(ids.baseline, key=key) for key in (None, "train/loss")
    ],
    "metric_points.means_of_run": lambda uow, ids: uow.metric_points.means_of_run(
        ids.baseline, prefix="train/", every_steps=10
    ),
    "metric_points.of_runs": lambda uow, ids: uow.metric_points.of_runs(
        [ids.baseline, ids.distilled], key=Metric.MAP
    ),
    "metric_points.page": lambda uow, ids: uow.metric_points.page(
        ids.baseline, key=None, after=("train/loss", 1), limit=5
    ),
    "baselines.find_reusable": lambda uow, ids: uow.baselines.find_reusable(
        equal_run().lineage.spec_digest or "", project=PROJECT
    ),
    "baselines.find_seeds": lambda uow, ids: uow.baselines.find_seeds(
        read_seedless(uow, ids)[0], project=read_seedless(uow, ids)[1]
    ),
    "baselines.find_pairs": find_pairs,
    "baselines.find_equal_pairs": lambda uow, ids: uow.baselines.find_equal_pairs(
        [uow.runs.get(ids.distilled).lineage.spec_digest or ""], project=PROJECT
    ),
    "baselines.find_distilled_run": lambda uow, ids: uow.baselines.find_distilled_run(ids.baseline),
    "baselines.find_scores": lambda uow, ids: uow.baselines.find_scores(
        read_group(uow, ids)[0], project=read_group(uow, ids)[1]
    ),
    "baselines.find_best_maps": lambda uow, ids: uow.baselines.find_best_maps(
        [ids.baseline, ids.distilled]
    ),
    "baselines.find_teacher_measurement": lambda uow, ids: uow.baselines.find_teacher_measurement(
        equal_run().lineage.teacher_key or "", project=PROJECT
    ),
    "baselines.find_external_baselines": lambda uow, ids: uow.baselines.find_external_baselines(
        ids.sweep
    ),
    "baselines.find_changed": find_changed_runs,
    "baselines.find_with_lost_baseline": lambda uow, ids: find_affected(
        uow, ids, uow.baselines.find_with_lost_baseline
    ),
    "baselines.find_with_restored_baseline": lambda uow, ids: find_affected(
        uow, ids, uow.baselines.find_with_restored_baseline
    ),
    "baselines.find_uncompared": lambda uow, ids: find_affected(
        uow, ids, uow.baselines.find_uncompared
    ),
    "baselines.mark_compared": mark_compared,
    "baselines.find_unread_reports": lambda uow, ids: uow.baselines.find_unread_reports(),
    "comparisons.put": put_comparison,
    "comparisons.of_runs": lambda uow, ids: uow.comparisons.of_runs([ids.baseline, ids.distilled]),
    "comparisons.not_synced": lambda uow, ids: [
        put_comparison(uow, ids),
        uow.comparisons.not_synced(),
    ],
    "comparisons.record_synced": lambda uow, ids: uow.comparisons.record_synced(
        put_comparison(uow, ids)
    ),
    "registry.find": lambda uow, ids: uow.registry.find(dataset="pets", teacher="big"),
    "registry.dataset": lambda uow, ids: uow.registry.dataset("pets"),
    "registry.lock_inserts": lambda uow, ids: uow.registry.lock_inserts(),
    "registry.has_unfinished_users": lambda uow, ids: [
        uow.registry.has_unfinished_users("dataset", "pets", outside="p1"),
        uow.registry.has_unfinished_users("teacher", "big", outside="p1"),
    ],
    "registry.datasets": lambda uow, ids: uow.registry.datasets(),
    "registry.put_dataset": lambda uow, ids: None,
    "registry.teacher": lambda uow, ids: uow.registry.teacher("big"),
    "registry.teachers": lambda uow, ids: uow.registry.teachers(),
    "registry.put_teacher": lambda uow, ids: None,
    "projects.all": lambda uow, ids: uow.projects.all(),
    "projects.get": lambda uow, ids: uow.projects.get("p1"),
    "projects.put": lambda uow, ids: uow.projects.put(Project("p1", weight=2.0)),
    "leader_leases.acquire": lambda uow, ids: uow.leader_leases.acquire(
        "queue", owner="a", now=NOW, until=NOW
    ),
    "leader_leases.release": lambda uow, ids: uow.leader_leases.release("a"),
    "tokens.get": lambda uow, ids: uow.tokens.get("t1"),
    "tokens.page": lambda uow, ids: uow.tokens.page(after=None, limit=5),
    "tokens.all": lambda uow, ids: uow.tokens.all(),
    "tokens.put": lambda uow, ids: uow.tokens.put(
        Token("t1", "n", Role.VIEWER, None, NO_HASH, created_at=NOW)
    ),
    "tokens.record_use": lambda uow, ids: uow.tokens.record_use("t1", at=NOW),
    "audit.add": lambda uow, ids: uow.audit.add(
        AuditEntry(NOW, "user", "POST", "/v1/runs", 201, "q", "127.0.0.1")
    ),
    "audit.page": lambda uow, ids: [
        uow.audit.page(before=before, limit=5) for before in (None, 20)
    ],
    "audit.complete": lambda uow, ids: uow.audit.complete(
        uow.audit.add(AuditEntry(NOW, "user", "POST", "/v1/runs", 102, "q", "127.0.0.1")),
        status=201,
        run_id=ids.queued,
    ),
    "retention.finished_runs": lambda uow, ids: [
        uow.retention.finished_runs(before=NOW, after=after, limit=5)
        for after in (None, (NOW - timedelta(days=1), ids.baseline))
    ],
    "retention.find_referenced": lambda uow, ids: uow.retention.find_referenced([ids.baseline]),
    "retention.sweeps_of": lambda uow, ids: uow.retention.sweeps_of([ids.baseline]),
    "retention.count": lambda uow, ids: [
        uow.retention.count(rows, [ids.baseline])
        for rows in ("events", "metric_values", "idempotency_keys")
    ],
    "retention.delete": lambda uow, ids: [
        uow.retention.delete(rows, [ids.baseline], limit=5)
        for rows in ("events", "metric_values", "idempotency_keys")
    ],
    "retention.mark_files_deleted": lambda uow, ids: uow.retention.mark_files_deleted(
        [ids.baseline], at=NOW
    ),
    "retention.has_deleted_files": lambda uow, ids: uow.retention.has_deleted_files(ids.baseline),
    "metrics.count_runs": lambda uow, ids: uow.metrics.count_runs(),
    "metrics.list_projects": lambda uow, ids: uow.metrics.list_projects(),
    "metrics.count_attempts_by_reason": lambda uow, ids: uow.metrics.count_attempts_by_reason(),
    "metrics.ended_totals": lambda uow, ids: uow.metrics.ended_totals(),
    "metrics.oldest_by_project": lambda uow, ids: uow.metrics.oldest_by_project(RunState.QUEUED),
    "metrics.active_runs": lambda uow, ids: uow.metrics.active_runs(),
    "metrics.count_untracked": lambda uow, ids: uow.metrics.count_untracked(),
    "metrics.active_usage": lambda uow, ids: uow.metrics.active_usage(NOW),
}
ELSEWHERE = {
    "runs.page": "tests/integration/store/test_run_lists.py",
    "retention.prune_sweep_keys": "once an hour: reads what the history of sweeps still holds",
    "retention.prune_tokens": "once an hour: reads all tokens, as the list of tokens does",
    "retention.prune_audit": "once an hour: walks the audit log from its oldest entry on",
}
"""Methods whose cost another test holds, or may grow, with the reason."""


class RollBack(Exception):
    """Ends a transaction without its changes."""


def test_the_cost_of_every_method_is_measured() -> None:
    methods = {
        f"{repository}.{name}"
        for repository, cls in get_type_hints(SqlUnitOfWork).items()
        for name, member in vars(cls).items()
        if isfunction(member) and not name.startswith("_")
    }

    assert methods == CALLS.keys() | ELSEWHERE.keys()


def test_no_query_of_sqlite_grows(tmp_path: Path) -> None:
    small, large = (measure_on_sqlite(tmp_path / f"{runs}.db", runs) for runs in SIZES)

    assert find_grown(small, large, tolerance=30) == {}


@pytest.mark.slow
def test_no_query_of_postgresql_grows(postgres: Postgres) -> None:
    small, large = (measure_on_postgresql(postgres, runs) for runs in SIZES)

    assert find_grown(small, large, tolerance=10) == {}


def test_no_loop_and_no_page_grows(tmp_path: Path) -> None:
    small, large = (measure_service(tmp_path / str(runs), runs) for runs in SIZES)

    assert find_grown(small, large, tolerance=100) == {}


def find_grown(
    small: dict[str, int], large: dict[str, int], *, tolerance: int
) -> dict[str, tuple[int, int]]:
    return {
        name: (cost, large[name])
        for name, cost in small.items()
        if large[name] > MAX_GROWTH * cost + tolerance
    }


def measure_on_sqlite(file: Path, runs: int) -> dict[str, int]:
    """Operations of each call."""
    fill_sqlite(file, runs)
    with count_operations() as counter:
        database = Database(f"sqlite:///{file}")

        def measure(uow: SqlUnitOfWork, call: Callable[[], object]) -> int:
            before = counter.operations
            call()
            return counter.operations - before

        costs = measure_calls(database, runs, measure)
        database.close()
    return costs


def measure_on_postgresql(server: Postgres, runs: int) -> dict[str, int]:
    """Rows that each call reads; without scans of tables that are small enough to pay."""
    url = server.create_database()
    fill_history(url, History(runs))
    database = Database(url)
    query = text("SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables")

    def measure(uow: SqlUnitOfWork, call: Callable[[], object]) -> int:
        session = uow.runs._session
        session.execute(text("SET LOCAL enable_seqscan = off"))
        before = int(session.scalar(query) or 0)
        call()
        return int(session.scalar(query) or 0) - before

    costs = measure_calls(database, runs, measure)
    database.close()
    server.drop(url)
    return costs


def measure_calls(
    database: Database, runs: int, measure: Callable[[SqlUnitOfWork, Callable[[], object]], int]
) -> dict[str, int]:
    ids, costs = Ids(History(runs)), {}
    for name, call in CALLS.items():
        with suppress(RollBack), database.transaction() as uow:
            costs[name] = measure(uow, partial(call, uow, ids))
            raise RollBack
    return costs


def measure_service(home: Path, runs: int) -> dict[str, int]:
    """Operations of each loop's turn when nothing happens, and of some pages."""
    fill_sqlite(home / "tandem.db", runs)
    with count_operations() as counter, open_stage(home) as stage:
        stage.add_dataset()
        stage.add_teacher()
        for _ in range(2):
            stage.run_loops()
        costs = {}
        for name, step in list_steps(stage, Ids(History(runs))).items():
            before = counter.operations
            step()
            costs[name] = counter.operations - before
    return costs


def list_steps(stage: Stage, ids: Ids) -> dict[str, Callable[[], object]]:
    def get(path: str) -> Callable[[], object]:
        return lambda: stage.http.get(path).raise_for_status()

    pages = (
        *("/metrics", "/readyz", "/v1/runs", "/v1/events"),
        *("/v1/sweeps?limit=3", "/v1/autopilots?limit=3"),
    )
    body = {"spec": make_bckd_spec(), "project": PROJECT}
    return {
        "reconcile": stage.reconciler.run_once,
        "tracker_sync": stage.tracker_sync.run_once,
        "sweeps": stage.sweeps.run_once,
        "autopilots": stage.autopilots.run_once,
        "compare": lambda: compare_baselines(stage.ctx),
        **{page: get(page) for page in pages},
        "a run": get(f"/v1/runs/{ids.queued}"),
        "an autopilot": get(f"/v1/autopilots/{ids.autopilot}"),
        "launch": lambda: stage.launch(**body),
        "launch elsewhere": lambda: stage.launch(**body | {"project": "new"}),
    }


def fill_sqlite(file: Path, runs: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(migrated_sqlite())
    fill_history(f"sqlite:///{file}", History(runs))
