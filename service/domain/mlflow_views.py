"""Saved views of MLflow's list of runs: columns, charts, order and filter, as experiment tags.

MLflow keeps a view that its users save and share in a tag of the experiment, and opens it by the
key in the tag's name. The format is that of MLflow 3.17 (`savedViewEnvelope.ts`,
`ExperimentPageUIState.tsx` and `runs-charts.types.ts` in its sources).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from configs.metric_keys import Metric, gain_metric
from configs.protocol.comparison import MAP_PARTS
from configs.protocol.names import Tag
from service.domain.sweeps import Sweep

RUNS_VIEW: Final = "tandem"
"""Key of the view of all training runs."""

PAIRS_VIEW: Final = "tandem-pairs"
"""Key of the view that groups training runs with their baselines."""

_VIEW_TAG = "mlflow.sharedViewState."
_CREATED_AT_MS = 1_767_225_600_000
"""Fixed, so that the tag of a view changes only with the view."""

_SECTIONS: dict[str, bool] = {"val": True, "gain": True, "train": True, "teacher": False}
"""Sections of charts in their order, and whether they are open. MLflow adds the others below."""

_COLUMNS = (
    f"metrics.`{Metric.MAP}`",
    f"metrics.`{gain_metric(MAP_PARTS[0])}`",
    f"tags.`{Tag.VERDICT}`",
    f"metrics.`{Metric.MAP_50}`",
    f"metrics.`{Metric.MAP_75}`",
    f"metrics.`{Metric.TEACHER_MAP}`",
    "params.`distillation.method`",
    "params.`seed`",
    f"tags.`{Tag.RUN_ID}`",
)
_IS_TRAINING_RUN = f"tags.`{Tag.TASK}` = 'train'"


def build_view_tags() -> dict[str, str]:
    """The views of a project's experiment, as tags."""
    runs = _build_state(columns=_COLUMNS, search_filter=_IS_TRAINING_RUN)
    grouping = {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "tag", "groupByData": Tag.PAIR}],
    }
    return {
        _VIEW_TAG + RUNS_VIEW: _encode_view("Tandem: runs", runs),
        _VIEW_TAG + PAIRS_VIEW: _encode_view("Tandem: pairs", {**runs, "groupBy": grouping}),
    }


def build_sweep_view_tags(sweep: Sweep) -> dict[str, str]:
    """The view of a sweep's trials, the best first, as a tag; its key is the sweep's id."""
    objectives = [f"metrics.`{objective.metric}`" for objective in sweep.spec.objectives]
    columns = (*objectives, *(f"params.`{path}`" for path in sweep.spec.space), *_COLUMNS)
    state = _build_state(
        columns=tuple(dict.fromkeys(columns)),
        search_filter=f"tags.`{Tag.PARENT}` = '{sweep.mlflow_run_id}' AND {_IS_TRAINING_RUN}",
    )
    order = {"orderByKey": objectives[0], "orderByAsc": sweep.spec.objectives[0].goal == "min"}
    return {_VIEW_TAG + sweep.id: _encode_view(f"Sweep {sweep.id}: {sweep.name}", state | order)}


def _build_state(*, columns: Sequence[str], search_filter: str) -> dict[str, Any]:
    return {
        "searchFilter": search_filter,
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "isAccordionReordered": True,
        "compareRunSections": [
            _build_section(name, is_open=is_open) for name, is_open in _SECTIONS.items()
        ],
        "compareRunCharts": [
            _build_chart("LINE", Metric.MAP, section="val"),
            _build_chart("BAR", Metric.MAP, section="val"),
            *(_build_chart("LINE", f"val/{part}", section="val") for part in MAP_PARTS[1:]),
            _build_chart("BAR", gain_metric(MAP_PARTS[0]), section="gain"),
            _build_chart("LINE", Metric.LOSS, section="train"),
        ],
    }


def _build_section(name: str, *, is_open: bool) -> dict[str, Any]:
    return {
        "uuid": f"section-{name}",
        "name": name,
        "display": is_open,
        "columns": 2,
        "cardHeight": 300,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


def _build_chart(kind: str, metric: str, *, section: str) -> dict[str, Any]:
    return {
        "uuid": f"{kind.lower()}-{metric}",
        "type": kind,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": metric,
        "metricSectionId": f"section-{section}",
        "runsCountToCompare": 20,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "ignoreOutliers": False,
        "deleted": False,
        "isGenerated": False,
    }


def _encode_view(name: str, state: Mapping[str, Any]) -> str:
    return json.dumps({"name": name, "createdAt": _CREATED_AT_MS, "state": json.dumps(state)})
