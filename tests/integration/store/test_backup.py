"""Backups of all tables, between both kinds of database, complete or refused."""

import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from service.domain.errors.systems import BackupRefused, SchemaUnknown
from service.domain.vocabulary import EventKind
from service.store.backup.archive import BackupManifest
from service.store.backup.dump import write_backup
from service.store.backup.restore import restore_backup
from service.store.database import Database
from service.store.engine import is_sqlite
from service.store.schema import current_revision, revisions, schema_transaction, upgrade
from service.store.tables import Base
from tests.support.factories import make_run
from tests.support.service.database_rows import NOW, Rows, fill, read_rows
from tests.support.service.postgres import Postgres
from tests.support.service.stage import migrated_sqlite

KINDS = ("sqlite", "postgresql")
NEWEST = revisions()[-1].encode()
SECRET = b"never in a log"
CreateDatabase = Callable[[str], str]


@pytest.fixture
def create_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CreateDatabase]:
    """Creates an empty database of a kind; returns its URL."""
    urls: list[str] = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / f'{len(list(tmp_path.iterdir()))}' / 'tandem.db'}"
        server: Postgres = request.getfixturevalue("postgres")
        urls.append(server.create_empty_database())
        return urls[-1]

    yield make
    for url in urls:
        request.getfixturevalue("postgres").drop(url)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup.zip"


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
class TestFromEitherToEither:
    def test_every_row_of_every_table_comes_back(
        self, create_database: CreateDatabase, file: Path, source: str, target: str
    ) -> None:
        before = fill_database(url := create_database(source))

        summary = save(url, file)
        restore_file(url := create_database(target), file)

        assert set(summary.tables) == set(Base.metadata.tables)
        assert all(member.rows == 2 for member in summary.tables.values())
        assert read_content(url) == before

    def test_the_service_goes_on_with_the_next_numbers(
        self, create_database: CreateDatabase, file: Path, source: str, target: str
    ) -> None:
        fill_database(url := create_database(source))
        save(url, file)
        restore_file(url := create_database(target), file)

        database = Database(url)
        database.migrate()
        with database.transaction() as uow:
            uow.runs.lock_inserts()
            uow.runs.add(make_run())
            (launched,) = uow.events.of_run("r00000000000a")
            uow.events.add(launched.__class__(make_run().id, NOW, "user", EventKind.LAUNCHED, "?"))
            (added,) = uow.events.of_run(make_run().id)
        database.close()

        assert added.id is not None
        assert launched.id is not None
        assert added.id > launched.id + 1

    def test_a_backup_of_an_older_schema_is_brought_up(
        self, create_database: CreateDatabase, file: Path, source: str, target: str
    ) -> None:
        with schema_transaction(url := create_database(source)) as connection:
            upgrade(connection, revisions()[0])
            fill(connection)

        summary = save(url, file)
        restore_file(url := create_database(target), file)

        assert summary.revision == revisions()[0]
        with schema_transaction(url) as connection:
            assert current_revision(connection) == revisions()[-1]
            ids = connection.execute(text("SELECT id FROM runs ORDER BY id")).scalars().all()
        assert ids == ["r00000000000a", "r00000000000b"]


@pytest.mark.parametrize("kind", KINDS)
class TestWriting:
    def test_it_is_of_one_moment_while_others_write(
        self, create_database: CreateDatabase, file: Path, kind: str
    ) -> None:
        fill_database(url := create_database(kind))
        database = Database(url)

        def write_concurrently(table: str, num_done: int, _total: int) -> None:
            if table == "runs" and num_done == 0:
                with database.transaction() as uow:
                    uow.runs.add(make_run())
                    uow.projects.put(uow.projects.get("meanwhile"))

        summary = save(url, file, watch=write_concurrently)

        assert summary.tables["runs"].rows == 2
        assert summary.tables["projects"].rows == 2
        with database.transaction() as uow:
            assert uow.runs.get(make_run().id)
        database.close()

    def test_a_failure_in_the_middle_leaves_no_file(
        self, create_database: CreateDatabase, file: Path, kind: str
    ) -> None:
        fill_database(url := create_database(kind))

        def fail(table: str, _num_done: int, _total: int) -> None:
            if table == "runs":
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            save(url, file, watch=fail)

        assert [path.name for path in file.parent.iterdir() if "zip" in path.name] == []

    def test_a_file_that_is_there_is_kept(
        self, create_database: CreateDatabase, file: Path, kind: str
    ) -> None:
        fill_database(url := create_database(kind))
        file.write_text("precious")

        with pytest.raises(BackupRefused, match="exists already"):
            save(url, file)

        assert file.read_text() == "precious"

    def test_no_database_makes_no_backup(
        self, create_database: CreateDatabase, file: Path, kind: str
    ) -> None:
        with pytest.raises(BackupRefused, match="no database") as exc_info:
            save(create_database(kind), file)

        assert not file.exists()
        assert "secret" not in str(exc_info.value)


@pytest.mark.parametrize("kind", KINDS)
class TestRefusing:
    def test_what_is_there_is_replaced_only_when_that_is_said(
        self, create_database: CreateDatabase, file: Path, kind: str
    ) -> None:
        before = fill_database(source := create_database(kind))
        save(source, file)
        database = Database(target := create_database(kind))
        database.migrate()
        with database.transaction() as uow:
            assert uow.leader_leases.acquire("queue", owner="gone", now=NOW, until=NOW)
        database.close()
        restore_file(target, file)
        with schema_transaction(target) as connection:
            connection.execute(text("DELETE FROM metric_points WHERE step = 7"))
        content_before = read_content(target)

        with pytest.raises(BackupRefused, match="metric_points 1"):
            restore_file(target, file)
        assert read_content(target) == content_before
        restore_file(target, file, replace=True)

        assert read_content(target) == before

    def test_a_row_that_cannot_be_put_back_changes_nothing(
        self, create_database: CreateDatabase, file: Path, kind: str
    ) -> None:
        with schema_transaction(source := create_database("sqlite")) as connection:
            upgrade(connection)
            fill(connection)
            connection.execute(text("UPDATE events SET run_id = 'gone'"))
        save(source, file)
        before = fill_database(target := create_database(kind))

        with pytest.raises(BackupRefused):
            restore_file(target, file, replace=True)

        assert read_content(target) == before

    def test_a_backup_of_a_newer_tandem_is_refused(
        self, create_database: CreateDatabase, file: Path, kind: str
    ) -> None:
        fill_database(source := create_database(kind))
        save(source, file)
        rewrite(file, "manifest.json", lambda old: old.replace(b'"' + NEWEST, b'"9999'))

        with pytest.raises(SchemaUnknown, match="The backup is at schema revision 9999"):
            restore_file(create_database(kind), file)

    def test_the_tables_of_another_program_are_left_alone(
        self, create_database: CreateDatabase, file: Path, kind: str
    ) -> None:
        fill_database(source := create_database(kind))
        save(source, file)
        with schema_transaction(target := create_database(kind)) as connection:
            connection.execute(text("CREATE TABLE runs (theirs INTEGER)"))
        with pytest.raises(BackupRefused, match="not Tandem's"):
            restore_file(target, file, replace=True)

        with schema_transaction(target) as connection:
            connection.execute(text("DROP TABLE runs"))
            connection.execute(text("CREATE TABLE other (theirs INTEGER)"))
            connection.execute(text("INSERT INTO other VALUES (1)"))
        restore_file(target, file, replace=True)
        with schema_transaction(target) as connection:
            assert connection.execute(text("SELECT theirs FROM other")).scalar() == 1


def test_nobody_else_can_read_it_and_it_holds_the_secret(
    create_database: CreateDatabase, file: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "home" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(SECRET)
    fill_database(url := create_database("sqlite"))
    save(url, file, secret=secret)
    elsewhere = tmp_path / "other" / "secret"

    restore_file(create_database("sqlite"), file, secret=elsewhere)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert elsewhere.read_bytes() == SECRET
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o600


def test_another_secret_is_not_overwritten_unasked(
    create_database: CreateDatabase, file: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    fill_database(source := create_database("sqlite"))
    save(source, file, secret=secret)
    secret.write_bytes(b"another")

    with pytest.raises(BackupRefused, match="differs"):
        restore_file(create_database("sqlite"), file, secret=secret)
    assert secret.read_bytes() == b"another"
    restore_file(create_database("sqlite"), file, secret=secret, replace=True)

    assert secret.read_bytes() == SECRET


@pytest.mark.parametrize(
    ("member", "change"),
    [
        ("manifest.json", None),
        ("manifest.json", lambda old: old.replace(b'"sha256"', b'"sha1"')),
        ("tables/runs.jsonl", None),
        ("tables/runs.jsonl", lambda old: old[:-1]),
        ("tables/events.jsonl", lambda old: old.replace(b"launched", b"lunched!")),
    ],
)
def test_a_zip_with_other_files_is_refused(
    create_database: CreateDatabase,
    file: Path,
    member: str,
    change: Callable[[bytes], bytes] | None,
) -> None:
    fill_database(source := create_database("sqlite"))
    save(source, file)
    before = fill_database(target := create_database("sqlite"))
    rewrite(file, member, change)

    with pytest.raises(BackupRefused, match="is damaged, or is no backup"):
        restore_file(target, file, replace=True)

    assert read_content(target) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"I am no zip",
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + bytes([data[100] ^ 255]) + data[101:],
    ],
)
def test_a_damaged_file_is_refused(
    create_database: CreateDatabase, file: Path, damage: Callable[[bytes], bytes]
) -> None:
    fill_database(source := create_database("sqlite"))
    save(source, file)
    before = fill_database(target := create_database("sqlite"))
    file.write_bytes(damage(file.read_bytes()))

    with pytest.raises(BackupRefused, match="is damaged, or is no backup"):
        restore_file(target, file, replace=True)

    assert read_content(target) == before


def test_a_file_that_is_not_there_is_refused(create_database: CreateDatabase, file: Path) -> None:
    with pytest.raises(BackupRefused, match="There is no file"):
        restore_file(create_database("sqlite"), file)


def test_a_database_that_a_service_uses_is_not_touched(postgres: Postgres, file: Path) -> None:
    fill_database(url := postgres.create_empty_database())
    save(url, file)
    service = Database(url)
    with service.transaction() as uow:
        uow.events.last_id()

    with pytest.raises(BackupRefused, match="A service uses the database"):
        restore_file(url, file, replace=True)
    service.close()
    restore_file(url, file, replace=True)


def fill_database(url: str) -> Rows:
    if is_sqlite(url):
        file = Path(str(make_url(url).database))
        file.parent.mkdir()
        file.write_bytes(migrated_sqlite())
    with schema_transaction(url) as connection:
        upgrade(connection)
        fill(connection)
        return read_rows(connection)


def read_content(url: str) -> Rows:
    with schema_transaction(url) as connection:
        return read_rows(connection)


def ignore_progress(_table: str, _num_done: int, _total: int) -> None:
    """A progress callback without effect."""


def save(
    url: str,
    file: Path,
    *,
    secret: Path | None = None,
    watch: Callable[..., None] = ignore_progress,
) -> BackupManifest:
    files = {} if secret is None else {"secret": secret}
    return write_backup(url, file, files=files, at=NOW, on_progress=watch)


def restore_file(
    url: str, file: Path, *, secret: Path | None = None, replace: bool = False
) -> None:
    files = {} if secret is None else {"secret": secret}
    restore_backup(url, file, files=files, replace=replace, on_progress=ignore_progress)


def rewrite(file: Path, member: str, change: Callable[[bytes], bytes] | None) -> None:
    """Write a valid zip with one file changed or omitted."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, old in members.items():
            if name != member:
                archive.writestr(name, old)
            elif change is not None:
                archive.writestr(name, change(old))
