"""Descriptions of runs and experiments in MLflow, in Markdown, with links to API and pages."""

from collections.abc import Iterator

from configs.derived_specs import is_distilled
from configs.spec.run import RunSpec
from service.domain.mlflow_pages import MlflowPages
from service.domain.mlflow_views import PAIRS_VIEW
from service.domain.runs import Run


def describe_experiment(project: str, *, pages: MlflowPages, service_url: str) -> str:
    """Links to the experiment's views, which work in each of MLflow's modes."""
    return (
        f"Training runs: [table with mAP]({pages.runs(project)}), "
        f"[charts]({pages.runs(project, has_charts=True)}), "
        f"[students beside their baselines]({pages.runs(project, view=PAIRS_VIEW)}). "
        f"mAP is from 0 to 1. [API]({service_url}/docs)"
    )


def describe_run(
    run: Run, *, service_url: str, conclusion: str | None, compare_url: str | None
) -> str:
    """What the run is, its verdict, and where to read on.

    `conclusion` is None before the comparison with the baseline, `compare_url` if there are no
    runs to compare it with.
    """
    links = _iter_links(run, service_url=service_url, compare_url=compare_url)
    paragraphs = [
        ", ".join(links),  # MLflow shows the first lines only
        f"{_describe_role(run, service_url=service_url)} {conclusion or ''}".rstrip(),
        "Commands: " + ", ".join(f"`{command}`" for command in _iter_commands(run)) + ".",
    ]
    return "\n\n".join(paragraphs)


def find_pair(run: Run) -> str | None:
    """The baseline of the run, or the run itself if it can be one.

    None for a distilled run without a baseline, and for jobs that do not train.
    """
    if not isinstance(run.spec, RunSpec):
        return None
    return run.lineage.baseline_run_id or (None if is_distilled(run.spec) else run.id)


def _describe_role(run: Run, *, service_url: str) -> str:
    source = "" if run.preset is None else f", from the preset `{run.preset}`"
    if not isinstance(run.spec, RunSpec):
        return f"Job of the task `{run.task}`, `{run.id}`{source}."
    if not is_distilled(run.spec):
        return f"Student without a teacher, run `{run.id}`{source}, seed {run.spec.seed}."
    baseline_id = run.lineage.baseline_run_id
    baseline = (
        "no baseline"
        if baseline_id is None
        else f"baseline [{baseline_id}]({service_url}/v1/runs/{baseline_id})"
    )
    return f"Distilled student, run `{run.id}`{source}, seed {run.spec.seed}; {baseline}."


def _iter_links(run: Run, *, service_url: str, compare_url: str | None) -> Iterator[str]:
    if compare_url is not None:
        yield f"[mAP beside the baseline]({compare_url})"
    if run.lineage.report_run_id is not None:
        yield f"[report]({service_url}/v1/runs/{run.id}/report?format=html)"
    yield f"[the run in the API]({service_url}/v1/runs/{run.id})"


def _iter_commands(run: Run) -> Iterator[str]:
    yield f"tandem show {run.id}"
    if not isinstance(run.spec, RunSpec):
        return
    if is_distilled(run.spec):
        yield f"tandem loss-shares {run.id}"
    if run.lineage.baseline_run_id is not None:
        yield f"tandem repeat {run.id} --seeds 3"
