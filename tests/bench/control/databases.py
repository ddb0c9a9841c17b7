"""Databases for measurements, filled with a history."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.store.database import Database
from tests.support.service.history import History, fill_history
from tests.support.service.postgres import Postgres, find_postgres, run_postgres


@contextmanager
def run_server(kind: str) -> Iterator[Postgres | None]:
    """A PostgreSQL server; None for SQLite, which needs none."""
    if kind == "sqlite":
        yield None
        return
    programs = find_postgres()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
    with run_postgres(programs) as server:
        yield server


@contextmanager
def filled_database(
    home: Path, history: History, server: Postgres | None
) -> Iterator[tuple[str, float]]:
    """The URL of a database with a history, for a service in `home`, and the seconds it took."""
    home.mkdir(parents=True)
    url = f"sqlite:///{home / 'tandem.db'}" if server is None else server.create_database()
    start_s = time.perf_counter()
    database = Database(url)
    database.migrate()
    database.close()
    fill_history(url, history)
    yield url, time.perf_counter() - start_s
    if server is not None:
        server.drop(url)
    shutil.rmtree(home)
