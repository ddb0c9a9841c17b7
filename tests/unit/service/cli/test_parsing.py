"""Parsing of `key=value` arguments."""

import pytest
from pydantic import JsonValue

from service.cli.errors import CliError
from service.cli.parsing import parse_changes


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("schedule.epochs=3", "schedule.epochs", 3),
        ("data.image_size=[96, 96]", "data.image_size", [96, 96]),
        ("teacher={name: digits-teacher}", "teacher", {"name": "digits-teacher"}),
        ("tags.note=a=b", "tags.note", "a=b"),
        ("schedule.max_grad_norm=", "schedule.max_grad_norm", None),
        ("student.backbone.norm_eval=true", "student.backbone.norm_eval", True),
    ],
)
def test_a_value_is_yaml(text: str, key: str, value: JsonValue) -> None:
    assert parse_changes([text]) == {key: value}


@pytest.mark.parametrize("texts", [["epochs"], ["=3"], ["a=[1"], ["a=1", "a=2"]])
def test_what_is_no_change_is_refused_with_advice(texts: list[str]) -> None:
    with pytest.raises(CliError) as exc_info:
        parse_changes(texts)

    assert exc_info.value.error_message.advice
