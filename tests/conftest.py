"""Fixtures of all tests: databases, and a service over a simulated cluster and tracker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.service.postgres import Postgres, a_postgres, where_postgres_is
from tests.support.service.stage import Stage, migrated_sqlite, open_stage

pytest_plugins = ("tests.support.plugins.xdist_scheduling", "tests.support.plugins.time_budget")

# Other work on the machine makes an example slow; pytest's timeout is for those that hang.
settings.register_profile("tandem", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tandem")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of our own, for the whole session."""
    programs = where_postgres_is()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with a_postgres(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind, with the newest schema and nothing in it."""
    if request.param == "sqlite":
        file = tmp_path / "deep" / "tandem.db"
        file.parent.mkdir()
        file.write_bytes(migrated_sqlite())
        yield f"sqlite:///{file}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.fresh()
    yield url
    server.drop(url)


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """The service over SQLite, or over the database that `ON_BOTH_DATABASES` names."""
    if getattr(request, "param", "sqlite") == "sqlite":
        with open_stage(tmp_path) as made:
            yield made
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.fresh()
    with open_stage(tmp_path, database_url=url) as made:
        yield made
    server.drop(url)


@pytest.fixture
def any_stage(tmp_path: Path, database_url: str) -> Iterator[Stage]:
    """The service over each kind of database."""
    with open_stage(tmp_path, database_url=database_url) as made:
        yield made
