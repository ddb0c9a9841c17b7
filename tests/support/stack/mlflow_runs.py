"""MLflow's data of a run, read with MLflow's own client."""

from mlflow import MlflowClient
from mlflow.entities import Run

from configs.protocol.names import MLFLOW_EXPERIMENT, Tag


def find_mlflow_run(url: str, run_id: str) -> Run:
    """Find the MLflow run of a run; fails unless there is exactly one."""
    (run,) = _list_mlflow_runs(url, run_id)
    return run


def read_mlflow_status(url: str, run_id: str) -> str | None:
    """Read the status of a run in MLflow; None as long as MLflow has no such run."""
    if not _list_mlflow_runs(url, run_id):
        return None
    return str(find_mlflow_run(url, run_id).info.status)


def read_mlflow_steps(url: str, run_id: str, key: str) -> list[int]:
    """Read the steps of a metric's points, duplicates included."""
    history = MlflowClient(url).get_metric_history(find_mlflow_run(url, run_id).info.run_id, key)
    return sorted(point.step for point in history)


def _list_mlflow_runs(url: str, run_id: str) -> list[Run]:
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name(MLFLOW_EXPERIMENT)
    if experiment is None:
        return []
    return list(client.search_runs([experiment.experiment_id], f"tags.`{Tag.RUN_ID}` = '{run_id}'"))
