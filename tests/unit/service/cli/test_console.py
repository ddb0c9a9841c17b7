"""Tables and wrapping keep ids, addresses and commands whole at any width."""

import io

import pytest
from rich.text import Text

from service.cli import console
from service.cli.console.wrapping import wrap_text

RUN_ID = "r0123456789ab"
URL = "http://127.0.0.1:5500/#/experiments/1/runs/0123456789abcdef0123456789abcdef"
NAME = "a distilled student of digits, with seeds_0_1_2_3-and-a-name-without-any-space"


def print_table(monkeypatch: pytest.MonkeyPatch, *, width: int | None) -> list[str]:
    monkeypatch.setenv("TTY_COMPATIBLE", "0" if width is None else "1")
    monkeypatch.setenv("COLUMNS", str(width or 80))
    monkeypatch.setenv("TERM", "unknown")
    monkeypatch.setenv("NO_COLOR", "1")
    table = console.create_table(
        *("id", "name", "state", "mAP", "address"),
        folding=("name",),
        below=("address",),
        numbers=("mAP",),
    )
    table.add_row(RUN_ID, NAME, "succeeded", "7.5", URL)
    table.add_row(RUN_ID, "short", "failed", "41.2", "")
    out = console.output()
    out.file = io.StringIO()
    out.print(table)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [*range(10, 60), 80, 120, 200])
def test_a_terminal_of_any_width_shows_every_value(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = print_table(monkeypatch, width=width)

    for value in (RUN_ID, "succeeded", "41.2", URL, "distilled", "digits,"):
        assert any(value in line for line in lines), f"{value} is cut"


def test_a_pipe_has_one_line_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = print_table(monkeypatch, width=None)

    assert [line.split()[0] for line in lines] == ["id", RUN_ID, RUN_ID]
    assert lines[1].split()[-3:] == ["succeeded", "7.5", URL]
    assert lines[2].split() == [RUN_ID, "short", "failed", "41.2", "-"]


def test_text_wraps_between_words_and_commands_stay_whole() -> None:
    text = Text("Run `tandem teachers fetch gfl-r101-coco-2x-ms` or read http://example.org/a/b/c.")

    lines = [line.plain for line in wrap_text(text, 20)]

    assert lines == [
        "Run",
        "`tandem teachers fetch gfl-r101-coco-2x-ms`",
        "or read",
        "http://example.org/a/b/c.",
    ]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("val/bbox_mAP", 0.4125, "41.2"),
        ("val/bbox_mAP_s", -1.0, "-"),
        ("val/bbox_AR_100", 0.5, "50.0"),
        ("teacher/bbox_mAP", 0.7396, "74.0"),
        ("train/loss_cls", 0.4125, "0.4125"),
    ],
)
def test_metrics_of_coco_are_from_0_to_100(key: str, value: float, text: str) -> None:
    assert console.format_metric(key, value) == text
