"""A temporary PostgreSQL server from Debian's package, on a free port."""

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
_FAST_OPTIONS = (
    *("-c", "fsync=off"),
    *("-c", "synchronous_commit=off"),
    *("-c", "full_page_writes=off"),
    *("-c", "shared_buffers=32MB"),
    *("-c", "max_connections=60"),
)


def find_postgres() -> Path | None:
    """Find the folder of PostgreSQL's programs; None where it is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@dataclass
class Postgres:
    """A PostgreSQL server in a folder of its own."""

    programs: Path
    folder: Path
    port: int
    _numbers: Iterator[int]

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the server, without a database name."""
        return f"postgresql+psycopg://tandem:secret@127.0.0.1:{self.port}"

    def create_database(self) -> str:
        """Create a database with the newest schema; returns its URL."""
        name = f"tandem_{next(self._numbers)}"
        self._administer(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return f"{self.url}/{name}"

    def create_empty_database(self) -> str:
        """Create a database without a schema; returns its URL."""
        name = f"tandem_{next(self._numbers)}"
        self._administer(f"CREATE DATABASE {name}")
        return f"{self.url}/{name}"

    def drop(self, url: str) -> None:
        """Drop a database and close its connections."""
        self._administer(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def terminate_connections(self) -> int:
        """Terminate all client connections but its own, and wait for it; returns their number."""
        num_terminated = self._administer(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return num_terminated or 0

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = " ".join((*_FAST_OPTIONS, "-p", str(self.port), "-k", str(self.folder)))
        log = str(self.folder / "log")
        data = str(self.folder / "data")
        self._run("pg_ctl", "-D", data, "-l", log, "-w", "-t", "60", "-o", options, "start")

    def stop(self) -> None:
        """Stop the server and close its connections."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "-w", "stop")

    def _administer(self, statement: str) -> int | None:
        engine = create_engine(f"{self.url}/postgres", isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                result = connection.execute(text(statement))
                return result.scalar() if result.returns_rows else None
        finally:
            engine.dispose()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*_postgres_user_command(), str(self.programs / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
        )


@contextmanager
def run_postgres(programs: Path) -> Iterator[Postgres]:
    """Run a server with a migrated template database; delete its files at exit."""
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


def _postgres_user_command() -> Sequence[str]:
    # PostgreSQL does not run as root.
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
