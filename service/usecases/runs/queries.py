"""Queries of runs, their attempts and metrics."""

from dataclasses import dataclass, replace

from configs.protocol.comparison import Comparison, Verdict
from configs.spec.dataset import ClassNames
from configs.spec.references import NamedDataset
from service.domain.access import Caller
from service.domain.baselines import compute_gain
from service.domain.errors.requests import RunNotFound
from service.domain.loss_shares import LossShares, loss_shares_from_points
from service.domain.planning.references import references_of
from service.domain.repositories.runs import RunFilter
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Attempt, MetricPoint, Run
from service.domain.states import RunState
from service.usecases.access import resolve_project
from service.usecases.context import Context
from service.usecases.tracking import find_compare_url


@dataclass(frozen=True)
class ListedRun:
    """A run in a list, and how it compares with its baseline."""

    run: Run
    gain: float | None
    """Its best mAP minus that of its baseline; None until both have succeeded."""

    verdict: Verdict | None
    """None until a report has compared it with its baseline."""


@dataclass(frozen=True)
class ShownRun:
    """A run, and what its page shows beside it."""

    run: Run
    comparison: Comparison | None = None
    """None until a report has compared it with its baseline."""

    compare_url: str | None = None
    """MLflow's page with the mAP of the compared runs; None until MLflow has them."""

    queue_position: int | None = None
    """Its position in its project's queue, from 1; None if it is not queued."""


def get_loss_shares(run_id: str, *, ctx: Context) -> LossShares:
    """The shares of a run's loss terms in its gradient, from its logged metrics."""
    with ctx.store.snapshot() as uow:
        uow.runs.get(run_id)
        points = uow.metric_points.of_run(run_id, key=None)
    return loss_shares_from_points(points)


def get_run(run_id: str, *, ctx: Context) -> Run:
    with ctx.store.snapshot() as uow:
        return uow.runs.get(run_id)


def get_run_details(run_id: str, *, ctx: Context) -> ShownRun:
    with ctx.store.snapshot() as uow:
        return _read_details(uow, uow.runs.get(run_id), ctx=ctx)


def add_details(run: Run, *, ctx: Context) -> ShownRun:
    """As `get_run_details`, of a run as a request has just changed it."""
    with ctx.store.snapshot() as uow:
        return _read_details(uow, run, ctx=ctx)


def list_runs(run_filter: RunFilter, *, caller: Caller, ctx: Context) -> list[ListedRun]:
    """A page of the runs that the caller may see, in the order of the filter."""
    run_filter = replace(run_filter, project=resolve_project(run_filter.project, caller=caller))
    with ctx.store.snapshot() as uow:
        if run_filter.before is not None and not caller.can_see(
            uow.runs.get(run_filter.before).project
        ):
            raise RunNotFound(run_filter.before)
        runs = uow.runs.page(run_filter)
        comparisons = uow.comparisons.of_runs([run.id for run in runs])
        baseline_ids = {id_ for run in runs if (id_ := run.lineage.baseline_run_id) is not None}
        scores = uow.baselines.find_best_maps(baseline_ids)
    return [
        ListedRun(
            run,
            gain=compute_gain(run, baseline_map=scores.get(run.lineage.baseline_run_id or "")),
            verdict=comparisons[run.id].verdict if run.id in comparisons else None,
        )
        for run in runs
    ]


def list_attempts(run_id: str, *, after: int, limit: int, ctx: Context) -> list[Attempt]:
    """Up to `limit` attempts of a run with numbers above `after`, by number."""
    with ctx.store.snapshot() as uow:
        uow.runs.get(run_id)
        return uow.attempts.of_run(run_id, after=after, limit=limit)


def list_metric_points(
    run_id: str, *, key: str | None, after: tuple[str, int] | None, limit: int, ctx: Context
) -> list[MetricPoint]:
    """Up to `limit` metric values of a run by key, then step; optionally of one key.

    Only those behind the value with the key and step of `after`.
    """
    with ctx.store.snapshot() as uow:
        uow.runs.get(run_id)
        return uow.metric_points.page(run_id, key=key, after=after, limit=limit)


def get_run_classes(uow: UnitOfWork, run: Run) -> ClassNames | None:
    """The classes of a run's dataset; `None` if the dataset is no longer registered."""
    reference = references_of(run.spec).dataset
    dataset = uow.registry.dataset(reference.name) if isinstance(reference, NamedDataset) else None
    return None if dataset is None else dataset.manifest.classes


def _read_details(uow: UnitOfWork, run: Run, *, ctx: Context) -> ShownRun:
    comparison = uow.comparisons.of_runs([run.id]).get(run.id)
    return ShownRun(
        run,
        comparison=comparison,
        compare_url=find_compare_url(uow, run, comparison=comparison, pages=ctx.mlflow_pages),
        queue_position=uow.runs.queue_position(run) if run.state is RunState.QUEUED else None,
    )
