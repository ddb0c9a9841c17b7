"""`tandem teachers` and `tandem presets`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from configs.catalog import preset_names
from configs.teacher_catalog import known_teachers
from service.cli import create_app
from service.cli.errors import CliError
from service.cli.teachers import build_import_command

WIDE = {"COLUMNS": "200"}


def test_every_known_teacher_is_listed_with_the_command_that_gets_it() -> None:
    output = CliRunner().invoke(create_app(), ["teachers", "known"], env=WIDE).output

    assert all(name in output for name in known_teachers())
    assert "tandem teachers fetch gfl-r101-coco-2x-ms" in output
    assert "tandem run coco/teacher_swin_t" in output
    assert "44.7" in output


def test_every_preset_is_listed() -> None:
    output = CliRunner().invoke(create_app(), ["presets"], env=WIDE).output

    presets = [line.split()[0] for line in output.splitlines() if "/" in line.partition("  ")[0]]
    assert tuple(presets) == preset_names()


def test_a_known_teacher_is_fetched_by_its_hash_from_its_source() -> None:
    card = known_teachers()["gfl-r101-coco-2x-ms"]

    command = build_import_command(
        "gfl-r101-coco-2x-ms", card, worker=Path("/bin/w"), source=None, out=Path("/out")
    )

    assert command[:4] == ["/bin/w", "teachers", "import", card.source]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options == {
        "--name": "gfl-r101-coco-2x-ms",
        "--preset": "coco/teacher_r101",
        "--classes": "coco",
        "--sha256": "dd12f847",
        "--out": "/out",
    }


@pytest.mark.parametrize(
    ("name", "advice"),
    [("gfl-swin-t-coco-2x-ms", "tandem run coco/teacher_swin_t"), ("huge", "teachers known")],
)
def test_a_teacher_that_cannot_be_fetched_has_advice(name: str, advice: str) -> None:
    result = CliRunner().invoke(create_app(), ["teachers", "fetch", name])

    assert isinstance(result.exception, CliError)
    assert advice in result.exception.error_message.advice[0]
