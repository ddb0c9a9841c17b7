"""What MLflow holds of a run, read with its own client."""

from mlflow import MlflowClient
from mlflow.entities import Run

from configs.protocol.names import MLFLOW_EXPERIMENT, Tag


def tracked_run(url: str, run_id: str) -> Run:
    """The one MLflow run of a run."""
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name(MLFLOW_EXPERIMENT)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`{Tag.RUN_ID}` = '{run_id}'")
    assert len(found) == 1
    return found[0]


def tracked_steps(url: str, run_id: str, key: str) -> list[int]:
    """The steps of a metric's points, as often as they are there."""
    history = MlflowClient(url).get_metric_history(tracked_run(url, run_id).info.run_id, key)
    return sorted(point.step for point in history)
