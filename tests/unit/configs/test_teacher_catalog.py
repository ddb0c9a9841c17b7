"""Known teachers: their architecture, their source, and how to get them."""

import pytest
from pydantic import ValidationError

from configs.catalog import preset_names, spec_from_preset
from configs.spec.detector import SwinTransformer
from configs.spec.references import NamedTeacher
from configs.teacher_catalog import (
    TeacherCard,
    class_list_names,
    how_to_get_teacher,
    known_teachers,
    load_class_list,
)


@pytest.mark.parametrize("name", preset_names())
def test_every_teacher_that_a_preset_names_is_known(name: str) -> None:
    teacher = spec_from_preset(name).teacher

    assert teacher is None or isinstance(teacher, NamedTeacher)
    assert teacher is None or teacher.name in known_teachers()


@pytest.mark.parametrize("name", known_teachers())
def test_every_known_teacher_has_an_architecture_and_a_way_to_get_it(name: str) -> None:
    card = known_teachers()[name]

    assert card.detector == spec_from_preset(card.preset).student.architecture
    assert card.classes is None or load_class_list(card.classes)
    assert ("teachers fetch" in how_to_get_teacher(name)) == card.can_be_fetched
    assert (f"tandem run {card.preset}" in how_to_get_teacher(name)) != card.can_be_fetched


def test_the_papers_teacher_is_mmdets_file_by_its_published_hash() -> None:
    card = known_teachers()["gfl-r101-coco-2x-ms"]

    assert card.source is not None
    assert card.source.startswith("https://download.openmmlab.com/")
    assert card.source.endswith(f"-{card.sha256}.pth")


def test_the_swin_teacher_is_trained_by_its_preset() -> None:
    assert isinstance(known_teachers()["gfl-swin-t-coco-2x-ms"].detector.backbone, SwinTransformer)
    assert "coco/teacher_swin_t" in how_to_get_teacher("gfl-swin-t-coco-2x-ms")


def test_the_classes_of_coco_are_the_80_in_order() -> None:
    coco = load_class_list("coco")

    assert class_list_names() == ("coco",)
    assert (len(coco), len(set(coco))) == (80, 80)
    assert (coco[0], coco[39], coco[79]) == ("person", "bottle", "toothbrush")


def test_an_unknown_name_is_answered_with_where_to_look() -> None:
    assert "tandem teachers known" in how_to_get_teacher("big")


@pytest.mark.parametrize(
    "card",
    [
        {"source": "https://example.org/t.pth", "classes": "coco"},
        {"source": "https://example.org/t.pth", "sha256": "0" * 8},
        {"source": "http://example.org/t.pth", "classes": "coco", "sha256": "0" * 8},
        {"source": "/home/somebody/t.pth", "classes": "coco", "sha256": "0" * 8},
        {"source": "s3://a/t.pth", "classes": "coco", "sha256": "0" * 8, "shipped": True},
    ],
    ids=["without a hash", "without classes", "not encrypted", "a private path", "two places"],
)
def test_a_card_that_cannot_be_relied_on_is_refused(card: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TeacherCard.model_validate({"summary": "", "preset": "coco/teacher_r101"} | card)
