"""Locks of whole tables against concurrent insertions of equal names on PostgreSQL."""

from enum import IntEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session


class InsertLock(IntEnum):
    """The numbers of PostgreSQL's advisory locks; 7,410,000 to 7,410,003 are used elsewhere."""

    REGISTRY = 7_410_004
    PROJECTS = 7_410_005


def lock_inserts(session: Session, lock: InsertLock) -> None:
    """Keep other transactions from taking the lock until this one ends. On SQLite a writing
    transaction is alone anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(int(lock))))
