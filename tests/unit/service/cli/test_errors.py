"""A person reads what, which field, what to do."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from service.cli.errors import CliError, ErrorMessage, explain_error, render_error
from service.settings import Settings
from service.stack.errors import ComponentFailed, PortInUse


def _text(refusal: ErrorMessage) -> str:
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(render_error(refusal))
    return capture.get()


def test_a_refusal_shows_what_field_and_advice() -> None:
    shown = _text(ErrorMessage("No.", fields=(("data.flip", "at most 1"),), advice=("Lower it.",)))

    assert "No." in shown
    assert "data.flip: at most 1" in shown
    assert "→ Lower it." in shown


def test_text_in_brackets_is_not_markup() -> None:
    assert "[red]x[/nothing]" in _text(ErrorMessage("[red]x[/nothing]"))


def test_a_taken_port_names_port_holder_and_setting() -> None:
    error = PortInUse(8265, component="Ray", holder="process 7 (nginx)", setting="TANDEM_RAY_URL")

    shown = _text(explain_error(error) or ErrorMessage(""))

    assert all(word in shown for word in ("8265", "process 7 (nginx)", "TANDEM_RAY_URL"))


def test_a_failed_part_quotes_its_log() -> None:
    error = ComponentFailed("MLflow", problem="ended", log=Path("/l"), last_lines=("boom",))

    assert "│ boom" in _text(explain_error(error) or ErrorMessage(""))


def test_a_wrong_setting_is_named_as_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_PORT", "none")

    with pytest.raises(ValidationError) as caught:
        Settings()

    refusal = explain_error(caught.value)
    assert refusal is not None
    assert refusal.fields[0][0] == "TANDEM_PORT"


def test_a_refused_command_keeps_its_refusal() -> None:
    refusal = ErrorMessage("No.")

    assert explain_error(CliError(refusal)) is refusal


def test_a_bug_is_no_refusal() -> None:
    assert explain_error(RuntimeError("ours")) is None
