"""Error messages show summary, fields, log lines and advice."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from service.cli.errors import CliError, ErrorMessage, explain_error, render_error
from service.settings import Settings
from service.stack.errors import ComponentFailed, PortInUse


def _render_text(message: ErrorMessage) -> str:
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(render_error(message))
    return capture.get()


def test_a_message_shows_summary_field_and_advice() -> None:
    text = _render_text(
        ErrorMessage("No.", fields=(("data.flip", "at most 1"),), advice=("Lower it.",))
    )

    assert "No." in text
    assert "data.flip: at most 1" in text
    assert "→ Lower it." in text


def test_text_in_brackets_is_not_markup() -> None:
    assert "[red]x[/nothing]" in _render_text(ErrorMessage("[red]x[/nothing]"))


def test_a_port_in_use_names_port_holder_and_setting() -> None:
    error = PortInUse(8265, component="Ray", holder="process 7 (nginx)", setting="TANDEM_RAY_URL")

    rendered = _render_text(explain_error(error) or ErrorMessage(""))

    assert all(text in rendered for text in ("8265", "process 7 (nginx)", "TANDEM_RAY_URL"))


def test_a_failed_component_shows_its_log() -> None:
    error = ComponentFailed("MLflow", problem="ended", log=Path("/l"), last_lines=("boom",))

    assert "│ boom" in _render_text(explain_error(error) or ErrorMessage(""))


def test_an_invalid_setting_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_PORT", "none")

    with pytest.raises(ValidationError) as exc_info:
        Settings()

    message = explain_error(exc_info.value)
    assert message is not None
    assert message.fields == (("TANDEM_PORT", "needs a whole number"),)


def test_a_cli_error_keeps_its_message() -> None:
    message = ErrorMessage("No.")

    assert explain_error(CliError(message)) is message


def test_a_bug_has_no_message() -> None:
    assert explain_error(RuntimeError("ours")) is None
