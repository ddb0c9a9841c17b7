"""`tandem backup` and `tandem restore`: the database as a zip file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.session import load_settings

if TYPE_CHECKING:
    from typing import BinaryIO

    from service.cli.console.wrapping import OutputConsole
    from service.settings import Settings
    from service.store.backup.archive import BackupManifest
    from service.store.backup.dump import RowProgressCallback

_STREAM = Path("-")


def backup(
    file: Annotated[
        Path, typer.Argument(help="The zip to write; it must not exist. - is standard output.")
    ],
) -> None:
    """Write the database to a zip, even while the service runs. The zip contains secrets."""
    from datetime import UTC, datetime

    from service.store.backup.dump import write_backup

    settings = load_settings()
    is_stream = file == _STREAM
    with _show_progress(is_hidden=is_stream) as on_progress:
        manifest = write_backup(
            settings.sqlalchemy_url,
            _open_standard_output() if is_stream else file,
            files=settings.database_side_files,
            at=datetime.now(UTC),
            on_progress=on_progress,
        )
    name = "The output" if is_stream else str(file)
    out = console.error_output() if is_stream else console.output()
    out.print(
        f"{name} contains {_summarize(manifest)}. "
        "Whoever can read it knows the secrets of the service."
    )
    _print_excluded_folders(settings, out)


def restore(
    file: Annotated[
        Path, typer.Argument(help="A zip that `tandem backup` wrote. - is standard input.")
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete the present content of the database.")
    ] = False,
) -> None:
    """Restore a backup into an empty database, SQLite or PostgreSQL, whatever wrote it."""
    from service.store.backup.restore import restore_backup

    settings = load_settings()
    _require_no_service(settings)
    with _read_archive(file) as archive, _show_progress() as on_progress:
        manifest = restore_backup(
            settings.sqlalchemy_url,
            archive,
            files=settings.database_side_files,
            replace=replace,
            on_progress=on_progress,
        )
    console.output().print(
        f"The database contains {_summarize(manifest)}, "
        f"as on {manifest.created_at:%Y-%m-%d %H:%M} UTC."
    )
    _print_excluded_folders(settings, console.output())


def _open_standard_output() -> "BinaryIO":
    """Standard output, for the bytes of a zip; a terminal is refused."""
    import sys

    if sys.stdout.isatty():
        advice = ("Redirect the output of `tandem backup -` to a file, or to another program.",)
        raise CliError(ErrorMessage("A zip is not written to a terminal.", advice=advice))
    return sys.stdout.buffer


@contextmanager
def _read_archive(file: Path) -> "Iterator[Path]":
    """The path of a backup; standard input is copied to a file: a zip is read from its end."""
    import shutil
    import sys
    import tempfile

    if file != _STREAM:
        yield file
        return
    with tempfile.NamedTemporaryFile(prefix="tandem-", suffix=".zip") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield Path(copy.name)


def _summarize(manifest: "BackupManifest") -> str:
    filled = sum(1 for member in manifest.tables.values() if member.rows)
    files = f" and {', '.join(sorted(manifest.files))}" if manifest.files else ""
    source = f"from {manifest.kind}, schema {manifest.revision}"
    return f"{manifest.rows} rows of {filled} tables{files} ({source})"


def _print_excluded_folders(settings: "Settings", out: "OutputConsole") -> None:
    """Folders that a backup does not include: they are large, and not part of the database."""
    folders = (settings.runs_dir, settings.logs_dir, settings.datasets_dir, settings.teachers_dir)
    out.print("Not in the backup, copy separately:")
    for folder in (*folders, settings.home / "mlflow"):
        out.print(f"  {folder}")


def _require_no_service(settings: "Settings") -> None:
    if _is_listening(settings.url):
        advice = ("Stop it with `tandem down`, then try again.",)
        raise CliError(ErrorMessage(f"A service runs at {settings.url}.", advice=advice))


def _is_listening(url: str) -> bool:
    import httpx

    try:
        httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return False
    except httpx.TransportError:
        return True  # it is reachable, even if it does not answer correctly
    return True


@contextmanager
def _show_progress(*, is_hidden: bool = False) -> "Iterator[RowProgressCallback]":
    """A progress bar for the table that is being copied."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn())
    out = console.output()
    is_disabled = is_hidden or not out.is_terminal
    with Progress(*columns, console=out, transient=True, disable=is_disabled) as progress:
        bar = progress.add_task("")

        def show_rows(table: str, done: int, total: int) -> None:
            progress.update(bar, description=table, completed=done, total=max(total, 1))

        yield show_rows
