"""`tandem methods`: distillation methods, also of other packages."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import console
from service.cli.console.help_pages import create_group
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import open_client

if TYPE_CHECKING:
    from configs.protocol.methods import MethodCard
    from service.api.schemas.methods import MethodsView
    from service.client import TandemClient

_POLL_S = 1.0
_LONGEST_WAIT_S = 120.0

methods = create_group("List distillation methods, and begin a package with a new one.")


@methods.command("list")
def list_methods(
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask the workers again, and wait for their answer.")
    ] = False,
    as_json: console.AsJson = False,
) -> None:
    """List Tandem's methods, and those of packages that the workers have."""
    with open_client() as client:
        view = _refresh(client) if refresh else client.methods()
    if as_json:
        console.print_json(view)
        return
    _print_methods(view)


@methods.command("show")
def show_method(
    name: Annotated[str, typer.Argument(help="The name of a method of another package.")],
    as_json: console.AsJson = False,
) -> None:
    """Show the fields of a method of another package."""
    with open_client() as client:
        view = client.methods()
    card = next((card for card in view.installed if card.name == name), None)
    if card is None:
        raise CliError(
            ErrorMessage(
                f"The workers have no method {name!r} of another package.",
                advice=("`tandem methods list --refresh` asks them again.",),
            )
        )
    if as_json:
        console.print_json(card)
        return
    _print_fields(card)


@methods.command("new")
def new_method(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and _.")],
    into: Annotated[Path, typer.Option(help="The folder for the package's folder.")] = Path(),
) -> None:
    """Write a package with a method: fields, loss, golden case and test, ready to install."""
    from configs.spec.installed_methods import METHOD_NAME_PATTERN
    from service.cli.method_package import write_package

    if not re.fullmatch(METHOD_NAME_PATTERN, name):
        raise CliError(
            ErrorMessage(
                f"{name!r} is no name of a method.",
                advice=("It begins with a letter: at most 40 of a to z, 0 to 9 and _.",),
            )
        )
    try:
        folder = write_package(name, into=into)
    except FileExistsError as error:
        raise CliError(ErrorMessage(f"{error.filename} exists already.")) from error
    console.output().print(f"{folder} is a package with the method {name}; see its README.md.")


def _refresh(client: "TandemClient") -> "MethodsView":
    """Ask the workers, and wait until they have answered or the job has failed."""
    view = client.refresh_methods()
    deadline = time.monotonic() + _LONGEST_WAIT_S
    while view.answer == "pending" and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        view = client.methods()
    return view


def _print_methods(view: "MethodsView") -> None:
    columns = ("method", "title", "package", "version", "labels")
    table = console.create_table(*columns, folding=("package",))
    for own in view.own:
        table.add_row(own.name, own.title, "Tandem", "-", _format_labels(own.needs_labels))
    for card in view.installed:
        labels = _format_labels(card.release.needs_labels)
        table.add_row(card.name, card.title, card.package, card.release.version, labels)
    console.output().print(table)
    for sentence in (*view.problems, *_explain_answer(view)):
        console.output().print(sentence)


def _format_labels(is_needed: bool) -> str:
    return "needed" if is_needed else "-"


def _explain_answer(view: "MethodsView") -> tuple[str, ...]:
    if view.answer == "pending":
        return ("The workers are being asked for methods of other packages.",)
    if view.failure is not None:
        return (f"The workers did not say which other methods they have: {view.failure}",)
    if view.answer == "none":
        return ("`tandem methods list --refresh` asks the workers for those of other packages.",)
    return ()


def _print_fields(card: "MethodCard") -> None:
    properties: Any = card.fields.get("properties", {})
    table = console.create_table(*("field", "default", "type", "description"), folding=("type",))
    for name, schema in properties.items():
        table.add_row(
            f"distillation.fields.{name}",
            str(schema.get("default", "required")),
            str(schema.get("type", "-")),
            schema.get("description", "-"),
        )
    console.output().print(table)
