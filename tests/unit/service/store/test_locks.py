"""Each advisory lock of PostgreSQL has a number of its own."""

from pathlib import Path

import service.store
from service.store.writers.locks import AdvisoryLock


def test_no_two_locks_have_the_same_number() -> None:
    numbers = [int(lock) for lock in AdvisoryLock.__members__.values()]

    assert sorted(set(numbers)) == sorted(numbers)


def test_every_lock_is_in_the_table() -> None:
    (folder,) = service.store.__path__
    files = [
        path for path in Path(folder).rglob("*.py") if "pg_advisory" in path.read_text("utf-8")
    ]

    assert [path.name for path in files] == ["locks.py"]
