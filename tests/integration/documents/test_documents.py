"""Every command and snippet of every document, run in the order of the text."""

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from service.stack.ports import choose_free_port
from tests.support.documents.examples import DOCUMENTS, Example, read_examples
from tests.support.documents.shell import DocumentShell, UnknownCommand


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DocumentShell]:
    shell = DocumentShell(tmp_path, monkeypatch)
    yield shell
    shell.service.stop()


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_the_commands_of_a_document_do_what_they_should(
    shell: DocumentShell, document: Path
) -> None:
    for _, block in groupby(read_examples(document), key=lambda example: example.block):
        for example in block:
            shell.run(example)
        shell.end_block()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("tandem show rnone", AssertionError),
        ("tandem run digits/bckd no.such=1", AssertionError),
        ("tandem-worker no-such-command", UnknownCommand),
        ("make no-such-target", UnknownCommand),
        ("docker compose top", UnknownCommand),
        ("curl http://127.0.0.1:8700/v1/runs/rnone", AssertionError),
        ("curl --no-such-option http://127.0.0.1:8700/v1/runs", ValueError),
    ],
)
def test_a_command_that_fails_or_is_unknown_is_found(
    shell: DocumentShell, line: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        shell.run(Example("example.md", 0, "bash", line))


def test_the_doctor_says_what_is_off(
    shell: DocumentShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tandem doctor`, before and after TANDEM_DATABASE_URL is set to a server that is away.

    The checks of the worker, which take seconds, are a script's.
    """
    worker = tmp_path / "tandem-worker"
    worker.write_text("#!/bin/sh\necho '[]'\n", encoding="utf-8")
    worker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    before = shell.call_tandem(["doctor"])
    monkeypatch.setenv(
        "TANDEM_DATABASE_URL", f"postgresql://tandem:secret@127.0.0.1:{choose_free_port()}/tandem"
    )
    after = shell.call_tandem(["doctor"])

    assert "TANDEM_DATABASE_URL" not in before.output
    assert after.exit_code == 1
    assert "TANDEM_DATABASE_URL" in after.output
    assert "secret" not in after.output
