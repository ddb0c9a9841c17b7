"""What a watched run ends with: mAP, gain over its baseline, address of MLflow."""

from service.api.schemas.runs import RunView
from service.cli import console
from service.cli.comparisons import show_verdict
from service.cli.views.run_details import format_best_map
from service.client import TandemClient


def print_run_result(client: TandemClient, run: RunView) -> None:
    """Print the result of a run that succeeded.

    If its baseline has succeeded too, wait for the report that compares them; otherwise say how to
    see the gain later.
    """
    out = console.output()
    best = format_best_map(run)
    if best is not None:
        out.print(f"mAP {best}")
    if run.baseline_run_id is not None:
        baseline = client.run(run.baseline_run_id)
        if baseline.is_over:
            show_verdict(client, run.id)
        else:
            out.print(_explain_pending_baseline(run, baseline))
    print_mlflow_url(run)


def print_mlflow_url(run: RunView) -> None:
    """Print where MLflow shows a run beside its baseline, or else alone, if it has the run."""
    url = run.compare_url or run.mlflow_url
    if url:
        console.output().print(f"MLflow: {url}")


def _explain_pending_baseline(run: RunView, baseline: RunView) -> str:
    progress = baseline.progress
    epoch = f", epoch {progress.epoch} of {progress.epochs}" if progress else ""
    state = "training" if baseline.state == "running" else baseline.state
    return (
        f"Its baseline {baseline.id} is still {state}{epoch}. When it has finished, a report "
        f"compares the two: `tandem show {run.id}` shows the gain, `tandem report {run.id}` "
        "the report."
    )
