"""The records of workers."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from configs.protocol.records import Record
from tests.support.factories import NO_HASH

AT = datetime(2026, 12, 1, tzinfo=UTC)
STARTED = {
    "kind": "started",
    "pid": 1,
    "resumed_from_epoch": 0,
    "teacher_sha256": None,
    "dataset_name": "pets",
    "dataset_digest": NO_HASH,
    "versions": {},
}


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"kind": "note"}, "text"),
        ({"kind": "outcome", "result": "failed"}, "message"),
        (STARTED | {"device": "cpu"}, "host"),
        (STARTED | {"host": "node1"}, "device"),
    ],
    ids=["note", "outcome", "host", "device"],
)
def test_texts_lose_what_terminals_obey(record: dict[str, Any], field: str) -> None:
    text = "a\x1b[2Jb\x00c\u202ed\ne\tf"

    parsed = TypeAdapter[Record](Record).validate_python(
        record | {"at": AT, "attempt": 1, field: text}
    )

    assert getattr(parsed, field) == "a\ufffd[2Jb\ufffdc\ufffdd\ne\tf"
