"""Backups: all tables, from either database into either, whole or refused."""

import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from service.domain.errors import BackupRefused, SchemaUnknown
from service.domain.runs import EventKind
from service.store.backup.archive import BackupManifest
from service.store.backup.dump import write_backup
from service.store.backup.restore import restore_backup
from service.store.database import Database
from service.store.engine import is_sqlite
from service.store.schema import current_revision, revisions, schema_transaction, upgrade
from service.store.tables import Base
from tests.support.factories import a_run
from tests.support.service.database_rows import NOW, Rows, fill, rows_of
from tests.support.service.postgres import Postgres
from tests.support.service.stage import migrated_sqlite

KINDS = ("sqlite", "postgresql")
NEWEST = revisions()[-1].encode()
SECRET = b"never in a log"
Fresh = Callable[[str], str]


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fresh]:
    """Makes the URL of an empty database of a kind."""
    made: list[str] = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / f'{len(list(tmp_path.iterdir()))}' / 'tandem.db'}"
        server: Postgres = request.getfixturevalue("postgres")
        made.append(server.empty())
        return made[-1]

    yield make
    for url in made:
        request.getfixturevalue("postgres").drop(url)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup.zip"


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
class TestFromEitherToEither:
    def test_every_row_of_every_table_comes_back(
        self, fresh: Fresh, file: Path, source: str, target: str
    ) -> None:
        before = filled(there := fresh(source))

        made = save(there, file)
        put_back(there := fresh(target), file)

        assert set(made.tables) == set(Base.metadata.tables)
        assert all(member.rows == 2 for member in made.tables.values())
        assert content(there) == before

    def test_the_service_goes_on_with_the_next_numbers(
        self, fresh: Fresh, file: Path, source: str, target: str
    ) -> None:
        filled(there := fresh(source))
        save(there, file)
        put_back(there := fresh(target), file)

        database = Database(there)
        database.migrate()
        with database.transaction() as uow:
            uow.runs.lock_inserts()
            uow.runs.add(a_run())
            (launched,) = uow.events.of_run("r00000000000a")
            uow.events.add(launched.__class__(a_run().id, NOW, "user", EventKind.LAUNCHED, "?"))
            (added,) = uow.events.of_run(a_run().id)
        database.close()

        assert added.id is not None
        assert launched.id is not None
        assert added.id > launched.id + 1

    def test_a_backup_of_an_older_schema_is_brought_up(
        self, fresh: Fresh, file: Path, source: str, target: str
    ) -> None:
        with schema_transaction(there := fresh(source)) as connection:
            upgrade(connection, revisions()[0])
            fill(connection)

        made = save(there, file)
        put_back(there := fresh(target), file)

        assert made.revision == revisions()[0]
        with schema_transaction(there) as connection:
            assert current_revision(connection) == revisions()[-1]
            ids = connection.execute(text("SELECT id FROM runs ORDER BY id")).scalars().all()
        assert ids == ["r00000000000a", "r00000000000b"]


@pytest.mark.parametrize("kind", KINDS)
class TestWriting:
    def test_it_is_of_one_moment_while_others_write(
        self, fresh: Fresh, file: Path, kind: str
    ) -> None:
        filled(url := fresh(kind))
        database = Database(url)

        def write_meanwhile(table: str, done: int, _total: int) -> None:
            if table == "runs" and done == 0:
                with database.transaction() as uow:
                    uow.runs.add(a_run())
                    uow.projects.put(uow.projects.get("meanwhile"))

        made = save(url, file, watch=write_meanwhile)

        assert made.tables["runs"].rows == 2
        assert made.tables["projects"].rows == 2
        with database.transaction() as uow:
            assert uow.runs.get(a_run().id)
        database.close()

    def test_a_failure_in_the_middle_leaves_no_file(
        self, fresh: Fresh, file: Path, kind: str
    ) -> None:
        filled(url := fresh(kind))

        def fail(table: str, _done: int, _total: int) -> None:
            if table == "runs":
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            save(url, file, watch=fail)

        assert [path.name for path in file.parent.iterdir() if "zip" in path.name] == []

    def test_a_file_that_is_there_is_kept(self, fresh: Fresh, file: Path, kind: str) -> None:
        filled(url := fresh(kind))
        file.write_text("precious")

        with pytest.raises(BackupRefused, match="exists already"):
            save(url, file)

        assert file.read_text() == "precious"

    def test_no_database_makes_no_backup(self, fresh: Fresh, file: Path, kind: str) -> None:
        with pytest.raises(BackupRefused, match="no database") as told:
            save(fresh(kind), file)

        assert not file.exists()
        assert "secret" not in str(told.value)


@pytest.mark.parametrize("kind", KINDS)
class TestRefusing:
    def test_what_is_there_is_replaced_only_when_that_is_said(
        self, fresh: Fresh, file: Path, kind: str
    ) -> None:
        before = filled(source := fresh(kind))
        save(source, file)
        database = Database(target := fresh(kind))
        database.migrate()
        with database.transaction() as uow:
            assert uow.leader_leases.acquire("queue", owner="gone", now=NOW, until=NOW)
        database.close()
        put_back(target, file)
        with schema_transaction(target) as connection:
            connection.execute(text("DELETE FROM metric_points WHERE step = 7"))
        changed = content(target)

        with pytest.raises(BackupRefused, match="metric_points 1"):
            put_back(target, file)
        assert content(target) == changed
        put_back(target, file, replace=True)

        assert content(target) == before

    def test_a_row_that_cannot_be_put_back_changes_nothing(
        self, fresh: Fresh, file: Path, kind: str
    ) -> None:
        with schema_transaction(source := fresh("sqlite")) as connection:
            upgrade(connection)
            fill(connection)
            connection.execute(text("UPDATE events SET run_id = 'gone'"))
        save(source, file)
        before = filled(target := fresh(kind))

        with pytest.raises(BackupRefused):
            put_back(target, file, replace=True)

        assert content(target) == before

    def test_a_backup_of_a_newer_tandem_is_refused(
        self, fresh: Fresh, file: Path, kind: str
    ) -> None:
        filled(source := fresh(kind))
        save(source, file)
        rewrite(file, "manifest.json", lambda old: old.replace(b'"' + NEWEST, b'"9999'))

        with pytest.raises(SchemaUnknown, match="The backup is at schema revision 9999"):
            put_back(fresh(kind), file)

    def test_the_tables_of_another_program_are_left_alone(
        self, fresh: Fresh, file: Path, kind: str
    ) -> None:
        filled(source := fresh(kind))
        save(source, file)
        with schema_transaction(target := fresh(kind)) as connection:
            connection.execute(text("CREATE TABLE runs (theirs INTEGER)"))
        with pytest.raises(BackupRefused, match="not Tandem's"):
            put_back(target, file, replace=True)

        with schema_transaction(target) as connection:
            connection.execute(text("DROP TABLE runs"))
            connection.execute(text("CREATE TABLE other (theirs INTEGER)"))
            connection.execute(text("INSERT INTO other VALUES (1)"))
        put_back(target, file, replace=True)
        with schema_transaction(target) as connection:
            assert connection.execute(text("SELECT theirs FROM other")).scalar() == 1


def test_nobody_else_can_read_it_and_it_holds_the_secret(
    fresh: Fresh, file: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "home" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(SECRET)
    filled(url := fresh("sqlite"))
    save(url, file, secret=secret)
    elsewhere = tmp_path / "other" / "secret"

    put_back(fresh("sqlite"), file, secret=elsewhere)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert elsewhere.read_bytes() == SECRET
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o600


def test_another_secret_is_not_overwritten_unasked(
    fresh: Fresh, file: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    filled(source := fresh("sqlite"))
    save(source, file, secret=secret)
    secret.write_bytes(b"another")

    with pytest.raises(BackupRefused, match="differs"):
        put_back(fresh("sqlite"), file, secret=secret)
    assert secret.read_bytes() == b"another"
    put_back(fresh("sqlite"), file, secret=secret, replace=True)

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
    fresh: Fresh, file: Path, member: str, change: Callable[[bytes], bytes] | None
) -> None:
    filled(source := fresh("sqlite"))
    save(source, file)
    before = filled(target := fresh("sqlite"))
    rewrite(file, member, change)

    with pytest.raises(BackupRefused, match="is damaged, or is no backup"):
        put_back(target, file, replace=True)

    assert content(target) == before


@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: b"",
        lambda whole: b"I am no zip",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:100] + bytes([whole[100] ^ 255]) + whole[101:],
    ],
)
def test_a_damaged_file_is_refused(
    fresh: Fresh, file: Path, harm: Callable[[bytes], bytes]
) -> None:
    filled(source := fresh("sqlite"))
    save(source, file)
    before = filled(target := fresh("sqlite"))
    file.write_bytes(harm(file.read_bytes()))

    with pytest.raises(BackupRefused, match="is damaged, or is no backup"):
        put_back(target, file, replace=True)

    assert content(target) == before


def test_a_file_that_is_not_there_is_refused(fresh: Fresh, file: Path) -> None:
    with pytest.raises(BackupRefused, match="There is no file"):
        put_back(fresh("sqlite"), file)


def test_a_database_that_a_service_uses_is_not_touched(postgres: Postgres, file: Path) -> None:
    filled(url := postgres.empty())
    save(url, file)
    service = Database(url)
    with service.transaction() as uow:
        uow.metrics.count_runs()

    with pytest.raises(BackupRefused, match="A service uses the database"):
        put_back(url, file, replace=True)
    service.close()
    put_back(url, file, replace=True)


def filled(url: str) -> Rows:
    if is_sqlite(url):
        file = Path(str(make_url(url).database))
        file.parent.mkdir()
        file.write_bytes(migrated_sqlite())
    with schema_transaction(url) as connection:
        upgrade(connection)
        fill(connection)
        return rows_of(connection)


def content(url: str) -> Rows:
    with schema_transaction(url) as connection:
        return rows_of(connection)


def nobody(_table: str, _done: int, _total: int) -> None:
    """Watches nothing."""


def save(
    url: str, file: Path, *, secret: Path | None = None, watch: Callable[..., None] = nobody
) -> BackupManifest:
    files = {} if secret is None else {"secret": secret}
    return write_backup(url, file, files=files, at=NOW, on_progress=watch)


def put_back(url: str, file: Path, *, secret: Path | None = None, replace: bool = False) -> None:
    files = {} if secret is None else {"secret": secret}
    restore_backup(url, file, files=files, replace=replace, on_progress=nobody)


def rewrite(file: Path, member: str, change: Callable[[bytes], bytes] | None) -> None:
    """The same zip, sound as a zip, with one file changed or left out."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, old in members.items():
            if name != member:
                archive.writestr(name, old)
            elif change is not None:
                archive.writestr(name, change(old))
