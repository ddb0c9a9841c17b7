"""Descriptions in MLflow: what a run is, its verdict, and links that lead back."""

from configs.catalog import parse_spec
from configs.spec.jobs import ExportSpec
from configs.spec.references import NamedTeacher
from service.domain.mlflow_notes import describe_run, find_pair
from service.domain.runs import Run
from tests.support.factories import make_bckd_spec, make_run

API = "http://api:8700"


def describe(run: Run, *, conclusion: str | None = None, compare_url: str | None = None) -> str:
    return describe_run(run, service_url=API, conclusion=conclusion, compare_url=compare_url)


def test_a_distilled_run_names_its_baseline_verdict_and_commands() -> None:
    run = make_distilled_run(baseline_run_id="r2", report_run_id="r3", preset="digits/bckd")

    text = describe(
        run, conclusion="Distillation helps: +2.3 mAP.", compare_url="http://m/#/metric"
    )

    assert f"run `{run.id}`, from the preset `digits/bckd`" in text
    assert f"baseline [r2]({API}/v1/runs/r2). Distillation helps: +2.3 mAP." in text
    assert "[mAP beside the baseline](http://m/#/metric)" in text
    assert f"[report]({API}/v1/runs/{run.id}/report?format=html)" in text
    assert f"`tandem repeat {run.id} --seeds 3`" in text


def test_a_link_without_a_target_is_left_out() -> None:
    text = describe(make_distilled_run())

    assert "no baseline" in text
    assert text.count("](") == 1
    assert f"({API}/v1/runs/" in text
    assert "repeat" not in text


def test_a_student_without_a_teacher_and_a_job_are_called_what_they_are() -> None:
    assert "Student without a teacher" in describe(make_run())
    assert "Job of the task `export`" in describe(make_export())


def test_a_baseline_and_its_students_share_the_value_of_the_pair() -> None:
    baseline = make_run(id="r2")

    assert find_pair(baseline) == "r2"
    assert find_pair(make_distilled_run(baseline_run_id="r2")) == "r2"


def test_a_run_without_a_partner_is_in_no_pair() -> None:
    assert find_pair(make_distilled_run()) is None
    assert find_pair(make_export()) is None


def make_distilled_run(**changes: object) -> Run:
    return make_run(spec=parse_spec(make_bckd_spec()), **changes)


def make_export() -> Run:
    return make_run(spec=ExportSpec(model=NamedTeacher(name="big"), tags={}))
