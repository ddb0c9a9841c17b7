"""Published tables: valid, and each row has a preset that resolves; smaller scales."""

from fractions import Fraction

import pytest
from pydantic import ValidationError

from configs.catalog import load_preset, parse_spec, spec_from_preset
from configs.spec.references import NamedTeacher
from configs.tables.published import (
    PublishedTable,
    UnknownTable,
    load_published_table,
    select_rows,
    table_names,
)
from configs.tables.scaling import FULL_SCALE, parse_scale, scale_run
from configs.teacher_catalog import known_teachers
from tests.support.factories import make_bckd_spec

ROWS = [(table, row) for table in table_names() for row in load_published_table(table).rows]


def test_there_is_a_table_for_each_published_method() -> None:
    assert table_names() == ("bckd", "crosskd", "ld", "pkd")


@pytest.mark.parametrize(("table", "row"), ROWS, ids="/".join)
def test_a_row_resolves_to_a_distilled_run_with_a_known_teacher(table: str, row: str) -> None:
    published = load_published_table(table).rows[row]

    spec = published.build_spec()

    assert spec.distillation.method == table
    assert isinstance(spec.teacher, NamedTeacher)
    assert spec.teacher.name in known_teachers()
    assert 0 < published.gain < 0.05


@pytest.mark.parametrize("row", ["r50", "r34", "r18"])
def test_the_table_of_bckd_has_the_numbers_of_its_presets(row: str) -> None:
    published = load_published_table("bckd").rows[row]

    summary = load_preset(published.preset).summary

    assert f"published mAP {100 * published.distilled_map:.1f}" in summary
    assert f"{100 * published.baseline_map:.1f} without" in summary


def test_the_license_of_code_that_may_not_be_used_is_stated() -> None:
    assert load_published_table("crosskd").code.license == "CC BY-NC 4.0"


@pytest.mark.parametrize(
    "change",
    [
        {"rows": {}},
        {"remark": "x"},
        {"rows": {"r50": {"teacher": "a", "student": "b"}}},
        {"source": {"paper": "p", "table": "t", "url": "http://example.org"}},
    ],
    ids=["no rows", "unknown key", "no numbers", "not encrypted"],
)
def test_an_invalid_table_is_refused(change: dict[str, object]) -> None:
    document = load_published_table("bckd").model_dump(mode="json")

    with pytest.raises(ValidationError):
        PublishedTable.model_validate(document | change)


def test_unknown_tables_and_rows_are_named_with_those_there_are() -> None:
    with pytest.raises(UnknownTable, match="no table 'bkcd'; did you mean bckd"):
        load_published_table("bkcd")
    with pytest.raises(UnknownTable, match=r"no row 'x101'.*r50, r34 and r18"):
        select_rows(load_published_table("bckd"), ("x101",))


@pytest.mark.parametrize(("text", "scale"), [("1", 1), ("1/10", Fraction(1, 10)), ("0.25", 0.25)])
def test_a_scale_is_a_share(text: str, scale: float) -> None:
    assert parse_scale(text) == scale


@pytest.mark.parametrize("text", ["0", "2", "1/0", "-1/2", "1e-3", "a tenth", "", "nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no scale"):
        parse_scale(text)


def test_a_tenth_has_a_tenth_of_the_images_and_of_the_warmup_and_the_same_epochs() -> None:
    spec = spec_from_preset("coco/bckd_r50_from_r101")

    changes = scale_run(spec, scale=Fraction(1, 10), num_images=118_287)

    assert changes == {"data.train_images": 11_829, "schedule.warmup.iterations": 50}
    assert spec_from_preset("coco/bckd_r50_from_r101", changes).schedule.epochs == 12


def test_full_scale_changes_nothing() -> None:
    assert scale_run(parse_spec(make_bckd_spec()), scale=FULL_SCALE, num_images=100) == {}


def test_at_least_a_batch_remains_and_never_more_than_there_is() -> None:
    spec = parse_spec(make_bckd_spec())

    assert scale_run(spec, scale=Fraction(1, 100), num_images=100) == {"data.train_images": 4}
    assert scale_run(spec, scale=Fraction(1, 100), num_images=3) == {"data.train_images": 3}
