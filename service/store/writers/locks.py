"""The advisory locks of PostgreSQL that transactions take. On SQLite a writing transaction is alone
anyway."""

from enum import IntEnum, unique

from sqlalchemy import Connection, func, select


@unique
class AdvisoryLock(IntEnum):
    """Their numbers: services of every version of Tandem on one database use the same."""

    SCHEMA = 7_410_000
    RUNS = 7_410_001
    SWEEPS = 7_410_002
    IDEMPOTENCY_KEYS = 7_410_003
    REGISTRY = 7_410_004
    PROJECTS = 7_410_005
    PACKS = 7_410_006
    AUTOPILOTS = 7_410_007


_ACQUIRE = {lock: select(func.pg_advisory_xact_lock(int(lock))) for lock in AdvisoryLock}
"""Built once, because each launch executes one."""


def acquire(lock: AdvisoryLock, connection: Connection) -> None:
    """Wait until no other transaction has the lock, and keep it until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(_ACQUIRE[lock])
