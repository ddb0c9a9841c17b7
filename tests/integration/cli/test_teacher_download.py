"""`tandem teachers fetch` and the worker's command that it runs, as processes."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from configs.catalog import spec_from_preset
from configs.teacher_catalog import TeacherCard, load_class_list
from service.cli.teachers import build_import_command
from service.stack.components import ComponentName
from service.stack.ports import choose_free_port
from tests.support.stack.shell import TANDEM, Shell
from tests.support.training.detectors import make_mmdet_gfl
from workers.checkpoints.files import compute_sha256


@pytest.mark.slow  # test_teacher_import.py runs the same command
def test_the_workers_command_brings_a_known_teacher(tmp_path: Path) -> None:
    model = make_mmdet_gfl(spec_from_preset("quick/instant").student, num_classes=80)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "theirs.pth")
    card = TeacherCard(
        summary="a tiny one",
        preset="quick/instant",
        classes="coco",
        source="https://example.org/theirs.pth",
        sha256=compute_sha256(tmp_path / "theirs.pth")[:8],
    )
    command = build_import_command(
        "tiny",
        card,
        worker=TANDEM.with_name("tandem-worker"),
        source=str(tmp_path / "theirs.pth"),
        out=tmp_path / "out",
    )

    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    document = json.loads((tmp_path / "out" / "tiny.json").read_text(encoding="utf-8"))
    assert document["sha256"] == compute_sha256(tmp_path / "out" / "tiny.pth")
    assert document["classes"] == list(load_class_list("coco"))


@pytest.mark.slow  # tests/unit/workers/teachers holds that other files are refused
def test_another_file_than_the_known_one_is_not_registered(tmp_path: Path) -> None:
    shell = Shell(
        home=tmp_path / "home", ports={part: choose_free_port() for part in ComponentName}
    )
    (tmp_path / "other.pth").write_bytes(b"other")

    result = shell.tandem(
        "teachers", "fetch", "gfl-r101-coco-2x-ms", "--source", str(tmp_path / "other.pth")
    )

    assert result.returncode == 1
    assert "expected dd12f847" in result.stderr
    assert "nothing was registered" in result.stderr
    assert "Traceback" not in result.stderr
    assert not any(shell.home.rglob("*.pth"))
