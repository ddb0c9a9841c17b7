"""`tandem backup` and `tandem restore`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import load_settings

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.backup.archive import BackupManifest
    from service.store.backup.dump import RowProgressCallback


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="The zip to write; there is none of this name yet.")],
) -> None:
    """Save the database as it is now, while the service runs; it holds secrets."""
    from datetime import UTC, datetime

    from service.store.backup.dump import write_backup

    settings = load_settings()
    with _progress() as watch:
        made = write_backup(
            settings.sqlalchemy_url,
            file,
            files=settings.database_side_files,
            at=datetime.now(UTC),
            on_progress=watch,
        )
    _say(f"{file} holds {_content(made)}. Whoever can read it can read what the service knows.")
    _say(f"Not in it, copy by yourself: {_elsewhere(settings)}.")


def restore(
    file: Annotated[Path, typer.Argument(help="A zip that `tandem backup` wrote.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Lose everything that the database holds now.")
    ] = False,
) -> None:
    """Put a backup into an empty database, of SQLite or PostgreSQL, whichever it came from."""
    from service.store.backup.restore import restore_backup

    settings = load_settings()
    _require_no_service(settings)
    with _progress() as watch:
        made = restore_backup(
            settings.sqlalchemy_url,
            file,
            files=settings.database_side_files,
            replace=replace,
            on_progress=watch,
        )
    _say(f"The database holds {_content(made)}, as on {made.created_at:%Y-%m-%d %H:%M} UTC.")
    _say(f"Not in the backup, copy by yourself: {_elsewhere(settings)}.")


def _content(made: "BackupManifest") -> str:
    filled = sum(1 for member in made.tables.values() if member.rows)
    beside = f" and {', '.join(sorted(made.files))}" if made.files else ""
    return f"{made.rows} rows of {filled} tables{beside} (from {made.kind}, schema {made.revision})"


def _elsewhere(settings: "Settings") -> str:
    """What a backup does not hold: large, and no part of the database."""
    folders = (settings.runs_dir, settings.logs_dir, settings.datasets_dir, settings.teachers_dir)
    return ", ".join(map(str, folders)) + f" and MLflow's ({settings.home / 'mlflow'})"


def _require_no_service(settings: "Settings") -> None:
    if _is_something_at(settings.url):
        advice = ("`tandem down` stops it; then ask again.",)
        raise CliError(ErrorMessage(f"A service is at {settings.url}.", advice=advice))


def _is_something_at(url: str) -> bool:
    import httpx

    try:
        httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return False
    except httpx.TransportError:
        return True  # even if it does not answer as it should
    return True


@contextmanager
def _progress() -> "Iterator[RowProgressCallback]":
    """A bar for each table while it is worked on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn())
    out = console.output()
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as shown:
        bar = shown.add_task("")

        def watch(table: str, done: int, total: int) -> None:
            shown.update(bar, description=table, completed=done, total=max(total, 1))

        yield watch


def _say(text: str) -> None:
    console.output().print(text, soft_wrap=True)
