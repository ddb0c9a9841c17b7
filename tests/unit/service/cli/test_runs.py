"""Pending records in `tandem show`."""

import pytest

from configs.protocol.records import PendingRecords
from service.cli import console
from service.cli.views.run_details import build_details, format_pending_records
from tests.support.service.run_views import make_run_view


@pytest.mark.parametrize(
    ("pending", "text"),
    [
        ({}, None),
        ({"service": 0, "mlflow": 20}, None),  # a normal backlog
        ({"service": 0, "mlflow": 120}, "120 for MLflow"),
        (
            {"service": 500, "mlflow": 21},
            "21 for MLflow, 500 for the service",
        ),
    ],
)
def test_a_large_backlog_is_shown_by_destination(pending: PendingRecords, text: str | None) -> None:
    assert format_pending_records(pending) == text


def test_the_details_of_a_run_include_pending_records(capsys: pytest.CaptureFixture[str]) -> None:
    view = make_run_view(pending_records={"service": 0, "mlflow": 120})

    console.output().print(build_details(view, None))

    assert "120 for MLflow" in capsys.readouterr().out
