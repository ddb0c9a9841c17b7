"""`tandem token`, `projects`, `project` and `audit`: who may do what, and who did what."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import load_settings, open_client
from service.domain.access import Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from service.usecases.context import Context

tokens = typer.Typer(name="token", help="Give access and take it back.", no_args_is_help=True)

_PERIOD = re.compile(r"(\d{1,5})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
_NONE = "none"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(tokens)
    for command in (projects, project, audit):
        app.command()(command)


@tokens.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is, as events and the audit say it.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.RUNNER,
    project: Annotated[str | None, typer.Option(help="Only runs of this project.")] = None,
    expires: Annotated[str | None, typer.Option(help="After how long: 12h, 30d, 8w.")] = None,
) -> None:
    """Make a token; it is shown this once. Works on the database: no service needs to run."""
    from service.usecases.access import create_token

    for ctx in _open_world():
        token, text = create_token(
            name, role=role, project=project, expires_at=_end_of(expires, ctx=ctx), ctx=ctx
        )
    typer.echo(text)
    where = f" of project {token.project}" if token.project else ""
    console.error_output().print(
        f"Token {token.id} for {token.name}, {token.role}{where}. It is not shown again: keep it "
        "in TANDEM_TOKEN, or in a file that only you can read (TANDEM_TOKEN_FILE)."
    )


@tokens.command("list")
def list_() -> None:
    """Show who has or had access."""
    from service.usecases.access import list_tokens

    shown = console.table("id", "name", "role", "project", "made", "ends", "last used", "state")
    for ctx in _open_world():
        now = ctx.clock.now()
        for token in list_tokens(ctx=ctx):
            is_revoked = token.revoked_at is not None
            state = "good" if token.is_valid(now) else "revoked" if is_revoked else "expired"
            shown.add_row(
                token.id,
                token.name,
                token.role,
                token.project or "all",
                console.format_time(token.created_at),
                console.format_time(token.expires_at),
                console.format_time(token.last_used_at),
                state,
            )
    console.output().print(shown)


@tokens.command()
def revoke(token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Take access back, from the next request on."""
    from service.usecases.access import revoke_token

    for ctx in _open_world():
        token = revoke_token(token_id, ctx=ctx)
    console.output().print(f"Token {token.id} of {token.name} opens nothing any more.")


def projects() -> None:
    """List projects that have limits or a weight of their own."""
    shown = console.table("project", "weight", "runs at a time", "GPUs at a time")
    with open_client() as client:
        for found in client.projects():
            limits = (found.max_runs, found.max_gpus)
            shown.add_row(
                found.name,
                f"{found.weight:g}",
                *("any" if most is None else str(most) for most in limits),
            )
    console.output().print(shown)


def project(
    name: Annotated[str, typer.Argument(help="The project.")],
    weight: Annotated[float | None, typer.Option(help="Its share beside others.")] = None,
    max_runs: Annotated[str | None, typer.Option(help="Runs at a time, or none.")] = None,
    max_gpus: Annotated[str | None, typer.Option(help="GPUs at a time, or none.")] = None,
) -> None:
    """Say how much of the cluster a project's runs may take; what is not named stays."""
    from service.api.schemas.access import ProjectRequest

    with open_client() as client:
        now = client.project(name)
        wanted = ProjectRequest(
            weight=now.weight if weight is None else weight,
            max_runs=_most(max_runs, now.max_runs),
            max_gpus=_most(max_gpus, now.max_gpus),
        )
        found = client.set_project(name, wanted)
    limits = (("runs", found.max_runs), ("GPUs", found.max_gpus))
    said = ", ".join(f"{'any' if most is None else most} {what}" for what, most in limits)
    console.output().print(f"{found.name}: weight {found.weight:g}, at a time {said}")


def audit(
    count: Annotated[int, typer.Option("--last", help="So many.", min=1, max=1000)] = 50,
) -> None:
    """Show the last requests that were to change something."""
    from service.api.schemas.access import AuditQuery

    shown = console.table(
        "at", "who", "what", "run", "answer", "from", "request", folding=("what",)
    )
    with open_client() as client:
        for entry in client.audit(AuditQuery(limit=count)).items:
            shown.add_row(
                console.format_time(entry.at),
                f"{entry.actor} {entry.token_id or ''}".rstrip(),
                f"{entry.method} {entry.path}",
                entry.run_id or "-",
                str(entry.status),
                entry.address,
                entry.request_id,
            )
    console.output().print(shown)


def _most(said: str | None, now: int | None) -> int | None:
    if said is None:
        return now
    if said == _NONE:
        return None
    if said.isdigit():
        return int(said)
    raise CliError(ErrorMessage(f"{said!r} is no number.", advice=("Give a number, or none.",)))


def _end_of(period: str | None, *, ctx: "Context") -> "datetime | None":
    from datetime import timedelta

    if period is None:
        return None
    found = _PERIOD.fullmatch(period)
    if found is None:
        advice = ("Write hours, days or weeks: 12h, 30d, 8w.",)
        raise CliError(ErrorMessage(f"{period!r} is no period.", advice=advice))
    return ctx.clock.now() + timedelta(hours=int(found[1]) * _HOURS[found[2]])


def _open_world() -> "Iterator[Context]":
    from service.main import open_context

    with open_context(load_settings()) as ctx:
        yield ctx
