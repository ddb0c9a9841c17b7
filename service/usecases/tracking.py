"""What MLflow shows of runs and experiments beside their metrics: descriptions, tags, views."""

import hashlib
import json

from configs.conclusions import conclude
from configs.protocol.comparison import MAP_PARTS, Comparison
from configs.protocol.names import DEFAULT_PROJECT, Tag
from service.domain.mlflow_notes import describe_experiment, describe_run, find_pair
from service.domain.mlflow_pages import MlflowPages
from service.domain.mlflow_views import build_view_tags
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.usecases.context import Context

_DIGEST_TAG = "tandem.view_digest"
"""Tells which views an experiment has, so that a change that people make to them stays."""


def prepare_experiments(*, ctx: Context) -> None:
    """Find or create the experiment of every project, and give it its description and views."""
    with ctx.store.snapshot() as uow:
        projects = uow.metrics.list_projects()
    for project in sorted({*projects, DEFAULT_PROJECT}):
        prepare_experiment(project, ctx=ctx)


def prepare_experiment(project: str, *, ctx: Context) -> str:
    """Find or create the experiment of a project, and give it its description and views once.

    Returns its id.
    """
    experiment = ctx.tracker.find_or_create_experiment(project)
    ctx.mlflow_experiment_ids[project] = experiment.id
    note = describe_experiment(project, pages=ctx.mlflow_pages, service_url=ctx.service_url)
    tags = {**build_view_tags(), str(Tag.NOTE): note}
    digest = hashlib.sha256(json.dumps(tags, sort_keys=True).encode()).hexdigest()
    if experiment.tags.get(_DIGEST_TAG) != digest:
        ctx.tracker.set_experiment_tags(experiment.id, {**tags, _DIGEST_TAG: digest})
    return experiment.id


def describe_tracked_run(run: Run, mlflow_run_id: str, *, ctx: Context) -> None:
    """Set the description of a run in MLflow, and the tag that it shares with its baseline.

    Raises `TrackerRefused` if its MLflow run was deleted.
    """
    with ctx.store.snapshot() as uow:
        comparison = uow.comparisons.of_runs([run.id]).get(run.id)
        compare_url = find_compare_url(uow, run, comparison=comparison, pages=ctx.mlflow_pages)
    tags = {
        str(Tag.NOTE): describe_run(
            run,
            service_url=ctx.service_url,
            conclusion=_conclude(comparison),
            compare_url=compare_url,
        )
    }
    pair = find_pair(run)
    if pair is not None:
        tags[str(Tag.PAIR)] = pair
    ctx.tracker.set_tags(mlflow_run_id, tags)


def find_compare_url(
    uow: UnitOfWork, run: Run, *, comparison: Comparison | None, pages: MlflowPages
) -> str | None:
    """MLflow's page with the mAP of a run and of all runs it is compared with.

    None without a baseline, and until MLflow has both runs.
    """
    baseline_id = run.lineage.baseline_run_id
    run_ids: tuple[str, ...] = () if baseline_id is None else (run.id, baseline_id)
    if comparison is not None:
        run_ids = (*comparison.runs, *comparison.baselines)
    if not run_ids:
        return None
    tracked = [uow.runs.get(run_id).tracking.mlflow_run_id for run_id in dict.fromkeys(run_ids)]
    mlflow_run_ids = [mlflow_run_id for mlflow_run_id in tracked if mlflow_run_id is not None]
    if len(mlflow_run_ids) < 2:
        return None
    return pages.comparison(mlflow_run_ids, project=run.project)


def _conclude(comparison: Comparison | None) -> str | None:
    if comparison is None or MAP_PARTS[0] not in comparison.parts:
        return None
    return conclude(comparison)
