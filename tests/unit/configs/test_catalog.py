"""Presets, changes, and errors that name the field by its path."""

from pathlib import Path
from typing import Any

import pytest

from configs import catalog
from configs.catalog import (
    SpecError,
    UnknownPreset,
    apply_changes,
    load_preset,
    parse_spec,
    spec_from_preset,
)
from configs.spec.distillation import Bckd
from configs.spec.references import NamedTeacher
from configs.spec.schedule import AdamW
from tests.support.factories import make_bckd_spec, make_spec


def find_invalid_fields(document: Any) -> set[str]:
    with pytest.raises(SpecError) as refusal:
        parse_spec(document)
    return {problem.field for problem in refusal.value.problems}


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a preset and one that is based on it."""
    folder = tmp_path / "experiments"
    (folder / "made").mkdir(parents=True)
    (folder / "made" / "base.yaml").write_text("summary: a\nspec: {seed: 1, tags: {a: b}}\n")
    (folder / "made" / "other.yaml").write_text("summary: b\nbased_on: made/base\n")
    monkeypatch.setattr(catalog, "_EXPERIMENTS", folder)
    return folder


def test_a_preset_is_parsed_once_and_again_after_a_change(experiments: Path) -> None:
    load_preset("made/other")
    parsed = catalog._parse_preset_file.cache_info().misses
    assert load_preset("made/other").document == {"seed": 1, "tags": {"a": "b"}}
    assert catalog._parse_preset_file.cache_info().misses == parsed

    (experiments / "made" / "base.yaml").write_text("summary: a\nspec: {seed: 22}\n")
    (experiments / "made" / "new.yaml").write_text("summary: c\nspec: {seed: 3}\n")

    assert load_preset("made/other").document == {"seed": 22}
    assert load_preset("made/new").document == {"seed": 3}
    (experiments / "made" / "new.yaml").unlink()
    with pytest.raises(UnknownPreset):
        load_preset("made/new")


def test_whoever_changes_a_document_changes_no_preset(experiments: Path) -> None:
    tags = load_preset("made/base").document["tags"]
    assert isinstance(tags, dict)
    tags["a"] = "changed"

    assert load_preset("made/base").document["tags"] == {"a": "b"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "made",
        "made/",
        "/made/base",
        "../experiments/made/base",
        "made/./base",
        "a\0b",
        "x" * 999,
    ],
)
def test_a_name_of_no_preset_reads_no_file(experiments: Path, name: str) -> None:
    with pytest.raises(UnknownPreset):
        load_preset(name)


def test_changes_replace_single_fields() -> None:
    preset = spec_from_preset("digits/bckd")
    spec = spec_from_preset("digits/bckd", {"distillation.loc_weight": 3, "seed": 5})

    assert isinstance(preset.distillation, Bckd)
    assert spec.distillation == preset.distillation.model_copy(update={"loc_weight": 3.0})
    assert spec.seed == 5


def test_changes_leave_the_original_as_it_was() -> None:
    document = make_spec()

    apply_changes(document, {"schedule.epochs": 9})

    assert document["schedule"]["epochs"] == 2


def test_a_preset_inherits_what_it_does_not_change() -> None:
    baseline, distilled = load_preset("digits/baseline"), load_preset("digits/bckd")

    assert distilled.document["schedule"] == baseline.document["schedule"]
    assert parse_spec(distilled.document).teacher == NamedTeacher(name="digits-teacher")


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownPreset, match="digits/bckd"):
        load_preset("digits/../../etc/passwd")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (make_spec(schedule={}), "schedule.epochs"),
        (make_spec(schedule={"epochs": 2, "optimizer": {"kind": "adam"}}), "schedule.optimizer"),
        (make_spec(student={"backbone": {"depth": 19}}), "student.backbone.depth"),
        (make_spec(data={"dataset": {"nam": "x"}}), "data.dataset.nam"),
        (make_bckd_spec(teacher={"run": "nonsense"}), "teacher.run"),
        (make_bckd_spec(distillation={"method": "kd"}), "distillation"),
        (make_spec(tags={"Team!": "x"}), "tags.Team!"),
        ([], ""),
    ],
    ids=[
        "missing",
        "unknown kind",
        "not offered",
        "typing error",
        "no id",
        "unknown method",
        "bad tag",
        "no mapping",
    ],
)
def test_an_error_names_its_field(document: Any, field: str) -> None:
    assert any(name.startswith(field) for name in find_invalid_fields(document))


def test_all_errors_are_reported_at_once() -> None:
    fields = find_invalid_fields(make_spec(seed=-1, schedule={"epochs": 0}, extra=1))

    assert {"seed", "schedule.epochs", "extra"} <= fields


def test_milestones_after_the_end_are_refused() -> None:
    schedule = {"epochs": 8, "policy": {"kind": "step", "milestones": [6, 8]}}

    with pytest.raises(SpecError, match="training ends with epoch 8"):
        parse_spec(make_spec(schedule=schedule))


def test_pretrained_weights_of_a_narrow_backbone_are_refused() -> None:
    student = {"backbone": {"depth": 50, "width": 0.5, "pretrained": "imagenet"}}

    with pytest.raises(SpecError, match=r"width 1\.0"):
        parse_spec(make_spec(student=student))


def test_a_spec_survives_json() -> None:
    spec = spec_from_preset("digits/bckd", {"tags": {"team": "a"}})

    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
    assert isinstance(spec.schedule.optimizer, AdamW)
