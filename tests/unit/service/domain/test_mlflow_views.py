"""Saved views for MLflow: mAP comes first, in columns and in charts."""

import json
from typing import Any

from configs.metric_keys import Metric
from configs.spec.search import Uniform
from configs.spec.sweep import Objective
from service.domain.mlflow_views import build_sweep_view_tags, build_view_tags
from tests.support.service.sweep_rows import make_sweep

MAX_TAG_CHARS = 20_000
"""MLflow refuses a longer tag of an experiment."""


def read_state(tag: str) -> dict[str, Any]:
    assert len(tag) < MAX_TAG_CHARS
    state: dict[str, Any] = json.loads(json.loads(tag)["state"])
    return state
