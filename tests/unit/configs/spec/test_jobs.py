"""Specs that do not train."""

import pytest

from configs.catalog import SpecError, parse_job
from configs.spec.jobs import EvaluationSpec, ExportSpec, get_task
from configs.spec.references import RunTeacher
from configs.spec.run import RunSpec
from tests.support.factories import make_spec

RUN = "r" + "0" * 12


def test_a_spec_without_a_task_trains() -> None:
    assert isinstance(parse_job(make_spec()), RunSpec)
    assert get_task(parse_job(make_spec())) == "train"


def test_an_evaluation_names_a_model_and_a_dataset() -> None:
    spec = parse_job(
        {"task": "evaluate", "model": {"run": RUN}, "data": {"dataset": {"name": "pets"}}}
    )

    assert isinstance(spec, EvaluationSpec)
    assert spec.model == RunTeacher(run=RUN, checkpoint="best")
    assert spec.data.split == "val"


def test_an_export_has_every_format_by_default() -> None:
    spec = parse_job({"task": "export", "model": {"name": "big"}})

    assert isinstance(spec, ExportSpec)
    assert spec.formats == ("checkpoint", "onnx", "mlflow")


def test_a_job_comes_back_from_json_as_it_was() -> None:
    spec = parse_job({"task": "export", "model": {"name": "big"}, "formats": ["onnx"]})

    assert parse_job(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"task": "export", "model": {"name": "big"}, "formats": []}, "formats"),
        ({"task": "export", "model": {"name": "big"}, "formats": ["tflite"]}, "formats.0"),
        ({"task": "export"}, "model"),
        ({"task": "evaluate", "model": {"name": "big"}}, "data"),
        ({"task": "export", "model": {"name": "big"}, "resources": {"num_gpus": 2}}, "num_gpus"),
        ({"task": "export", "model": {"name": "big"}, "student": {}}, "student"),
        ({"task": "report", "run": RUN, "inputs": None}, "inputs"),
    ],
)
def test_a_job_that_cannot_be_is_refused_with_its_field(
    document: dict[str, object], field: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        parse_job(document)  # type: ignore[arg-type]

    assert refusal.value.problems[0].field.endswith(field)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "dream"}, "task is evaluate, export, probe or report"),
        ({"formats": ["onnx", "onnx"]}, "only once"),
        ({"resources": {"processes": 2}}, "only training supports more than one process"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_with_a_reason(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        parse_job({"task": "export", "model": {"name": "big"}} | changes)  # type: ignore[arg-type]
