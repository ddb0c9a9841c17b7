"""What `tandem show` says of records that have not arrived."""

import pytest

from configs.spec import Behind
from service.cli.runs import behind_text


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
def test_who_is_really_behind_is_said(behind: Behind, said: str | None) -> None:
    assert behind_text(behind) == said
