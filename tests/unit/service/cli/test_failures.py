"""A person reads what, which field, what to do."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from service.cli.errors import Refusal, Refused, refusal_from, rendered
from service.settings import Settings
from service.stack.errors import PartFailed, PortTaken


def _text(refusal: Refusal) -> str:
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(rendered(refusal))
    return capture.get()


def test_a_refusal_shows_what_field_and_advice() -> None:
    shown = _text(Refusal("No.", fields=(("data.flip", "at most 1"),), advice=("Lower it.",)))

    assert "No." in shown
    assert "data.flip: at most 1" in shown
    assert "→ Lower it." in shown


def test_text_in_brackets_is_not_markup() -> None:
    assert "[red]x[/nothing]" in _text(Refusal("[red]x[/nothing]"))


def test_a_taken_port_names_port_holder_and_setting() -> None:
    error = PortTaken(8265, part="Ray", holder="process 7 (nginx)", setting="TANDEM_RAY_URL")

    shown = _text(refusal_from(error) or Refusal(""))

    assert all(word in shown for word in ("8265", "process 7 (nginx)", "TANDEM_RAY_URL"))


def test_a_failed_part_quotes_its_log() -> None:
    error = PartFailed("MLflow", what="ended", log=Path("/l"), last_lines=("boom",))

    assert "│ boom" in _text(refusal_from(error) or Refusal(""))


def test_a_wrong_setting_is_named_as_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_PORT", "none")

    with pytest.raises(ValidationError) as caught:
        Settings()

    refusal = refusal_from(caught.value)
    assert refusal is not None
    assert refusal.fields[0][0] == "TANDEM_PORT"


def test_a_refused_command_keeps_its_refusal() -> None:
    refusal = Refusal("No.")

    assert refusal_from(Refused(refusal)) is refusal


def test_a_bug_is_no_refusal() -> None:
    assert refusal_from(RuntimeError("ours")) is None
