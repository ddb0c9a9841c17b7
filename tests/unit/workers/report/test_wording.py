"""Formatting of numbers and names."""

import pytest

from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.workers.report_inputs import make_difference
from workers.report.wording import (
    format_duration,
    format_gain,
    format_interval,
    format_percent,
    format_points,
    format_scalar,
    format_speed,
    join_items,
    method_title,
    safe_url,
    schedule_title,
    shorten_paths,
    teacher_title,
)

MINUS, BREAK, DASH = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}", "\N{EN DASH}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_points(0.40149), "40.1"),
        (format_points(None), DASH),
        (format_points(-1.0), DASH),
        (format_gain(0.0234), "+2.3"),
        (format_gain(-0.0234), f"{MINUS}2.3"),
        (format_gain(-0.0004), "0.0"),
        (format_interval(make_difference(0.01, half_width=0.02)), f"[{MINUS}1.0,{BREAK}+3.0]"),
        (format_interval(make_difference(0.01, half_width=None)), DASH),
        (format_percent(0.414), f"41{BREAK}%"),
        (format_percent(-0.001), f"0{BREAK}%"),
        (format_duration(42.4), "42 s"),
        (format_duration(3 * 3600 + 12 * 60), "3 h 12 min"),
        (format_duration(119), "1 min 59 s"),
        (format_scalar(0.000123456), "0.000123"),
        (format_duration(None), DASH),
        (format_speed(31.44), "31.4"),
        (format_speed(1234.5), "1234"),
        (format_speed(None), DASH),
        (format_scalar(True), "yes"),
        (format_scalar("swin"), "swin"),
        (format_scalar(12), "12"),
        (join_items([3]), "3"),
        (join_items([3, 5, 8]), "3, 5 and 8"),
    ],
)
def test_numbers_are_formatted(text: str, expected: str) -> None:
    assert text == expected


def test_parameters_have_short_names_unless_two_end_alike() -> None:
    names = shorten_paths(
        ["distillation.cls_weight", "student.neck.channels", "student.head.channels"]
    )

    assert list(names.values()) == ["cls_weight", "student.neck.channels", "student.head.channels"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/", "https://a.example"),
        ("http://a.example:8000", "http://a.example:8000"),
        ("javascript:alert(1)", None),
        ("//a.example", None),
        (None, None),
    ],
)
def test_only_http_urls_are_safe(url: str | None, expected: str | None) -> None:
    assert safe_url(url) == expected


def test_a_run_is_named_as_in_the_published_table() -> None:
    spec = make_run_spec(
        distillation={"method": "bckd", "extra": {"pkd": {"weight": 6}}}, schedule={"epochs": 12}
    )

    assert (teacher_title(spec), method_title(spec)) == ("big", "BCKD + PKD")
    assert schedule_title(spec) == "12 epochs (1x)"
    assert teacher_title(parse_spec(make_spec())) == method_title(parse_spec(make_spec())) == "none"


def make_run_spec(**changes: object) -> RunSpec:
    return parse_spec(make_bckd_spec(**changes))
