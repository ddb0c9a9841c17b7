"""Fixtures of all tests: databases, and a service over a simulated cluster and tracker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from service.domain.vocabulary import Role
from tests.support.service.access import make_token
from tests.support.service.postgres import Postgres, find_postgres, run_postgres
from tests.support.service.stage import Stage, migrated_sqlite, open_stage

pytest_plugins = (
    "tests.support.plugins.garbage_collection",
    "tests.support.plugins.xdist_scheduling",
    "tests.support.plugins.time_budget",
)

# Other work on the machine makes an example slow; pytest's timeout is for those that hang.
settings.register_profile("tandem", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tandem")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, for the whole session."""
    programs = find_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with run_postgres(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database with the newest schema, once per kind of database."""
    if request.param == "sqlite":
        file = tmp_path / "deep" / "tandem.db"
        file.parent.mkdir()
        file.write_bytes(migrated_sqlite())
        yield f"sqlite:///{file}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create_database()
    yield url
    server.drop(url)


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """The service over SQLite, or over the database that `ON_BOTH_DATABASES` names."""
    if getattr(request, "param", "sqlite") == "sqlite":
        with open_stage(tmp_path) as opened:
            yield opened
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create_database()
    with open_stage(tmp_path, database_url=url) as opened:
        yield opened
    server.drop(url)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Stage]:
    """A service with access control; its client is an admin."""
    with open_stage(tmp_path, auth="tokens") as opened:
        opened.http.headers["Authorization"] = f"Bearer {make_token(opened, 'root', Role.ADMIN)}"
        yield opened


@pytest.fixture
def any_stage(tmp_path: Path, database_url: str) -> Iterator[Stage]:
    """The service over each kind of database."""
    with open_stage(tmp_path, database_url=database_url) as opened:
        yield opened
