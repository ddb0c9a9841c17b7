"""URLs of MLflow's pages, as a browser opens them.

MLflow 3 opens its own URL, and each experiment, in its mode for language models, which has no
training runs. So every URL selects the mode for model training, and lists select a saved view.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from configs.metric_keys import Metric
from service.domain.mlflow_views import RUNS_VIEW

_TRAINING_MODE = {"workflowType": "machine_learning"}


@dataclass(frozen=True)
class MlflowPages:
    """URLs of MLflow's pages; most need the experiment's id, which is known after a while."""

    url: str
    experiment_ids: Mapping[str, str]
    """MLflow's experiments by project."""

    def experiments(self) -> str:
        """The list of all experiments."""
        return self._page("experiments", {})

    def runs(self, project: str, *, view: str = RUNS_VIEW, has_charts: bool = False) -> str:
        """The runs of a project in a saved view: a table with mAP, or charts that begin with it."""
        experiment_id = self.experiment_ids.get(project)
        if experiment_id is None:
            return self.experiments()
        charts = {"compareRunsMode": "CHART"} if has_charts else {}
        return self._page(
            f"experiments/{experiment_id}/runs", {"viewStateShareKey": view, **charts}
        )

    def run(self, mlflow_run_id: str, *, project: str) -> str:
        """One run: its description, parameters, metrics and artifacts."""
        experiment_id = self.experiment_ids.get(project)
        if experiment_id is None:
            return self._page(f"runs/{mlflow_run_id}", {})
        return self._page(f"experiments/{experiment_id}/runs/{mlflow_run_id}", {})

    def comparison(self, mlflow_run_ids: Sequence[str], *, project: str) -> str | None:
        """mAP of several runs over their steps, with the last and the best value of each.

        None while the experiment's id is unknown.
        """
        experiment_id = self.experiment_ids.get(project)
        if experiment_id is None:
            return None
        parameters = {
            "runs": _encode(list(mlflow_run_ids)),
            "metric": _encode(Metric.MAP),
            "experiments": _encode([experiment_id]),
            "plot_metric_keys": _encode([Metric.MAP]),  # without it, MLflow shows an error
            "x_axis": "step",
            "show_point": "true",
        }
        return self._page("metric", parameters)

    def _page(self, path: str, parameters: Mapping[str, str]) -> str:
        query = urlencode({**parameters, **_TRAINING_MODE}, quote_via=quote)
        return f"{self.url.rstrip('/')}/#/{path}?{query}"


def _encode(value: str | list[str]) -> str:
    return json.dumps(value, separators=(",", ":"))
