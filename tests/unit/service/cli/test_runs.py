"""What `tandem show` says of records that have not arrived."""

import pytest

from configs.protocol.records import PendingRecords
from service.cli import console
from service.cli.runs import _facts, format_pending_records
from tests.support.service.run_views import a_view


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        ({}, None),
        ({"service": 0, "mlflow": 20}, None),  # always on their way
        ({"service": 0, "mlflow": 120}, "MLflow lacks 120 records"),
        (
            {"service": 500, "mlflow": 21},
            "MLflow lacks 21 records and the service lacks 500 records",
        ),
    ],
)
def test_who_is_really_behind_is_said(behind: PendingRecords, said: str | None) -> None:
    assert format_pending_records(behind) == said


def test_a_runs_facts_have_it_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    view = a_view(behind={"service": 0, "mlflow": 120})

    console.output().print(_facts(view, None))

    assert "MLflow lacks 120 records" in capsys.readouterr().out
