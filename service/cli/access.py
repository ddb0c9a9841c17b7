"""`tandem tokens`, `projects` and `audit`: access, shares of the cluster, audited requests."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.console.help_pages import create_group
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import load_settings, open_client
from service.domain.vocabulary import Role

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pydantic import JsonValue

    from service.api.schemas.access import AuditView
    from service.cli.console.tables import OutputTable
    from service.domain.access import Token
    from service.usecases.context import Context

tokens = create_group("Create, list and revoke access tokens.")
projects = create_group("Show and set limits and weights of projects.")

_LIFETIME = re.compile(r"(\d{1,5})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
_UNLIMITED = "none"


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="The owner; events and the audit log show it.")],
    role: Annotated[Role, typer.Option(help="What the token may do.")] = Role.RUNNER,
    project: Annotated[str | None, typer.Option(help="Restrict the token to this project.")] = None,
    expires: Annotated[str | None, typer.Option(help="Lifetime: 12h, 30d or 8w.")] = None,
) -> None:
    """Create a token and print it once. Uses the database: the service need not run."""
    from service.api.schemas.access import TokenRequest
    from service.context import open_context
    from service.usecases import access

    request = TokenRequest(name=name, role=role, project=project)
    with open_context(load_settings()) as ctx:
        token, text = access.create_token(
            request.name,
            role=request.role,
            project=request.project,
            expires_at=_expiry_from(expires, ctx=ctx),
            ctx=ctx,
        )
    typer.echo(text)
    scope = f" of project {token.project}" if token.project else ""
    console.error_output().print(
        f"Token {token.id} for {token.name}, {token.role}{scope}. It is not shown again: store it "
        "in TANDEM_TOKEN, or in a file that only you can read (TANDEM_TOKEN_FILE)."
    )


@tokens.command("list")
def list_tokens(as_json: console.AsJson = False) -> None:
    """List all tokens, also expired and revoked ones."""
    entries, now = read_tokens()
    if as_json:
        console.print_json([_token_document(token, at=now) for token in entries])
        return
    if not entries:
        console.output().print("No tokens yet; `tandem tokens create NAME` creates one.")
        return
    console.output().print(_build_tokens_table(entries, at=now))


def read_tokens() -> "tuple[list[Token], datetime]":
    """Read all tokens from the database, and the present time, which decides what has expired."""
    from service.context import open_context
    from service.usecases import access

    with open_context(load_settings()) as ctx:
        return access.list_tokens(ctx=ctx), ctx.clock.now()


@tokens.command("revoke")
def revoke_token(token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Revoke a token, from the next request on."""
    from service.context import open_context
    from service.usecases import access

    with open_context(load_settings()) as ctx:
        token = access.revoke_token(token_id, ctx=ctx)
    console.output().print(f"Token {token.id} of {token.name} is revoked.")


@projects.command("list")
def list_projects(as_json: console.AsJson = False) -> None:
    """List projects with their own limits or weight."""
    with open_client() as client:
        views = client.projects()
    if as_json:
        console.print_json(views)
        return
    if not views:
        console.output().print(
            "No project has limits or a weight; `tandem projects set` sets them."
        )
        return
    titles = ("weight", "max runs", "max GPUs", "max priority")
    table = console.create_table("project", *titles, folding=("project",), numbers=titles)
    for view in views:
        limits = (view.max_runs, view.max_gpus)
        table.add_row(
            view.name,
            f"{view.weight:g}",
            *("any" if limit is None else str(limit) for limit in limits),
            str(view.max_priority),
        )
    console.output().print(table)


@projects.command("set")
def set_project(
    name: Annotated[str, typer.Argument(help="The project.")],
    weight: Annotated[
        float | None, typer.Option(help="Its share relative to other projects.")
    ] = None,
    max_runs: Annotated[
        str | None, typer.Option(help="Maximum number of concurrent runs; none for no limit.")
    ] = None,
    max_gpus: Annotated[
        str | None, typer.Option(help="Maximum number of GPUs in use; none for no limit.")
    ] = None,
    max_priority: Annotated[
        int | None,
        typer.Option(help="Largest priority that runners may give.", min=-100, max=100),
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Set limits and weight of a project; options that are not given keep their values."""
    from service.api.schemas.access import ProjectRequest

    with open_client() as client:
        current = client.project(name)
        request = ProjectRequest(
            weight=current.weight if weight is None else weight,
            max_runs=_parse_limit(max_runs, default=current.max_runs),
            max_gpus=_parse_limit(max_gpus, default=current.max_gpus),
            max_priority=current.max_priority if max_priority is None else max_priority,
        )
        project = client.set_project(name, request)
    if as_json:
        console.print_json(project)
        return
    limits = (("runs", project.max_runs), ("GPUs", project.max_gpus))
    text = ", ".join(
        f"any number of {unit}" if limit is None else f"at most {limit} {unit}"
        for unit, limit in limits
    )
    console.output().print(
        f"{project.name}: weight {project.weight:g}, {text}, priorities up to "
        f"{project.max_priority}"
    )


def _token_document(token: "Token", *, at: "datetime") -> "dict[str, JsonValue]":
    times = {
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "last_used_at": token.last_used_at,
    }
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "project": token.project,
        "state": _describe_validity(token, at=at),
        **{name: None if time is None else time.isoformat() for name, time in times.items()},
    }


def _describe_validity(token: "Token", *, at: "datetime") -> str:
    if token.is_valid(at):
        return "valid"
    return "expired" if token.revoked_at is None else "revoked"


def _build_tokens_table(entries: "Iterable[Token]", *, at: "datetime") -> "OutputTable":
    from rich.markup import escape

    table = console.create_table(
        *("id", "name", "role", "project", "state", "expires", "created", "last used"),
        folding=("name", "project"),
        below=("created", "last used"),
    )
    for token in entries:
        table.add_row(
            token.id,
            escape(token.name),
            token.role,
            token.project or "all",
            _describe_validity(token, at=at),
            console.format_date(token.expires_at),
            console.format_date(token.created_at),
            console.format_time(token.last_used_at),
        )
    return table


def audit(
    count: Annotated[int, typer.Option("--last", help="Number of requests.", min=1, max=1000)] = 50,
    as_json: console.AsJson = False,
) -> None:
    """Show the last requests that could change something."""
    from service.api.schemas.access import AuditQuery

    with open_client() as client:
        entries = client.audit(AuditQuery(limit=count)).items
    if as_json:
        console.print_json(entries)
        return
    console.output().print(_build_audit_table(entries))


def _build_audit_table(entries: "Iterable[AuditView]") -> "OutputTable":
    from rich.markup import escape

    table = console.create_table(
        *("time", "actor", "status", "request", "run", "token", "address", "request id"),
        folding=("actor", "request"),
        below=("run", "token", "address", "request id"),
    )
    for entry in entries:
        table.add_row(
            console.format_time(entry.at),
            escape(entry.actor),
            str(entry.status),
            escape(f"{entry.method} {entry.path}"),
            entry.run_id or "",
            entry.token_id or "",
            entry.address,
            entry.request_id,
        )
    return table


def _parse_limit(text: str | None, *, default: int | None) -> int | None:
    if text is None:
        return default
    if text == _UNLIMITED:
        return None
    if text.isdigit():
        return int(text)
    raise CliError(ErrorMessage(f"{text!r} is not a number.", advice=("Give a number, or none.",)))


def _expiry_from(lifetime: str | None, *, ctx: "Context") -> "datetime | None":
    from datetime import timedelta

    if lifetime is None:
        return None
    match = _LIFETIME.fullmatch(lifetime)
    if match is None:
        advice = ("Write hours, days or weeks: 12h, 30d, 8w.",)
        raise CliError(ErrorMessage(f"{lifetime!r} is not a lifetime.", advice=advice))
    return ctx.clock.now() + timedelta(hours=int(match[1]) * _HOURS[match[2]])
