"""A PostgreSQL of the tests' own, from Debian's package, on a free port, gone at the end."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sqlalchemy import create_engine, text

from service.stack.ports import choose_free_port
from service.store.database import Database

_TEMPLATE = "tandem_template"
_FAST = (
    *("-c", "fsync=off"),
    *("-c", "synchronous_commit=off"),
    *("-c", "full_page_writes=off"),
    *("-c", "shared_buffers=32MB"),
    *("-c", "max_connections=60"),
)


def where_postgres_is() -> Path | None:
    """The folder of its programs; none where it is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@dataclass
class Postgres:
    """A server that runs."""

    programs: Path
    folder: Path
    port: int
    _numbers: Iterator[int]

    @property
    def url(self) -> str:
        """Where it answers, without a database's name."""
        return f"postgresql+psycopg://tandem:secret@127.0.0.1:{self.port}"

    def fresh(self) -> str:
        """The URL of a new database with the newest schema."""
        name = f"tandem_{next(self._numbers)}"
        self._administer(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return f"{self.url}/{name}"

    def empty(self) -> str:
        """The URL of a new database with nothing in it."""
        name = f"tandem_{next(self._numbers)}"
        self._administer(f"CREATE DATABASE {name}")
        return f"{self.url}/{name}"

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected."""
        self._administer(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def cut(self) -> int:
        """End every connection to every database but this one; how many there were."""
        ended = self._administer(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return ended or 0

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = " ".join((*_FAST, "-p", str(self.port), "-k", str(self.folder)))
        log = str(self.folder / "log")
        data = str(self.folder / "data")
        self._run("pg_ctl", "-D", data, "-l", log, "-w", "-t", "60", "-o", options, "start")

    def stop(self) -> None:
        """Stop the server; whoever is connected is cut off."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "-w", "stop")

    def _administer(self, statement: str) -> int | None:
        engine = create_engine(f"{self.url}/postgres", isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                result = connection.execute(text(statement))
                return result.scalar() if result.returns_rows else None
        finally:
            engine.dispose()

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [*_as_its_user(), str(self.programs / program), *words],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
        )


@contextmanager
def a_postgres(programs: Path) -> Iterator[Postgres]:
    """A server with a migrated template database; everything is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tandem-pg-", dir="/tmp"))
    server = Postgres(programs, folder, choose_free_port(), count(1))
    password = folder / "password"
    password.write_text("secret")
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        for path in (folder, password):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    data = str(folder / "data")
    try:
        server._run(
            *("initdb", "-D", data, "-U", "tandem", "--pwfile", str(password)),
            *("-A", "scram-sha-256", "-E", "UTF8", "--no-sync"),
        )
        server.start()
        server._administer(f"CREATE DATABASE {_TEMPLATE}")
        template = Database(f"{server.url}/{_TEMPLATE}")
        template.migrate()
        template.close()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_its_user() -> Sequence[str]:
    # PostgreSQL does not run as root.
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
