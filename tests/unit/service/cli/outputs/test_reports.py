"""Output of reports and loss shares."""

import webbrowser
from pathlib import Path

import pytest
import typer

from service.api.schemas.run_lists import RunPage
from service.api.schemas.runs import LevelLossShareView, LossSharesView
from service.domain.states import RunState
from tests.support.cli.canned_api import Answer
from tests.support.cli.outputs import CommandLine
from tests.support.service.run_views import make_run_summary, make_run_view

RUN = make_run_view(RunState.SUCCEEDED, report_run_id="r0123456789ac")
ANSWERS: dict[str, Answer] = {
    "GET /v1/runs": RunPage(items=[make_run_summary(id=RUN.id)], next_cursor=None),
    f"GET /v1/runs/{RUN.id}": RUN,
}
SHARES = LossSharesView(
    samples=12,
    step=240,
    parts=[
        LevelLossShareView(
            term=term, level=level, share=share, cosine=cosine, is_distillation=is_distillation
        )
        for term, share, cosine, is_distillation in (
            ("cls", 0.4, 1.0, False),
            ("distill_cls", 0.6, -0.25, True),
        )
        for level in ("all", "p3", "p7")
    ],
    verdict="Distillation takes 60 % of the gradient and opposes the labels.",
)


def test_loss_shares(command_line: CommandLine) -> None:
    api = {**ANSWERS, f"GET /v1/runs/{RUN.id}/loss-budget": SHARES}

    command_line.check("loss_shares", "loss-shares", "r0", api=api)

    assert command_line.read_json("loss-shares", "r0", api=api)["samples"] == 12


def test_report(command_line: CommandLine) -> None:
    api = {**ANSWERS, f"GET /v1/runs/{RUN.id}/report": "# Did it help?\n\nYes.\n"}

    command_line.check("report", "report", "r0", api=api)


@pytest.mark.parametrize("has_browser", [True, False])
def test_a_report_is_opened_or_else_its_address_is_printed(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_browser: bool
) -> None:
    api = {**ANSWERS, f"GET /v1/runs/{RUN.id}/report": "<h1>Did it help?</h1>"}
    page, opened = tmp_path / "page.html", list[str]()
    monkeypatch.setattr(typer, "launch", opened.append)
    monkeypatch.setattr(webbrowser, "get", get_browser if has_browser else fail_without_browser)

    output = command_line.run("report", "r0", "--open", str(page), api=api)

    assert output.exit_code == 0
    assert page.read_text(encoding="utf-8") == "<h1>Did it help?</h1>"
    assert opened == ([str(page)] if has_browser else [])
    assert (f"The page is {page.as_uri()}" in output.text) != has_browser


def get_browser() -> webbrowser.BaseBrowser:
    return webbrowser.GenericBrowser("true")


def fail_without_browser() -> webbrowser.BaseBrowser:
    raise webbrowser.Error("could not locate runnable browser")
