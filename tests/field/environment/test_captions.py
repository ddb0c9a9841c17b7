"""Class names beyond ASCII on pictures."""

import numpy as np
import pytest
from PIL import Image

from workers.evaluation.drawing import COLORS, Panel, draw_side_by_side
from workers.evaluation.lettering import load_font, make_drawable


@pytest.mark.parametrize("name", ["cat", "Löwe", "кошка", "γάτα", "قطة", "ł½", "a cat"])
def test_letters_of_many_scripts_are_drawn_as_they_are(name: str) -> None:
    assert make_drawable(name) == name


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("猫", r"\u732b"),
        ("cat 猫 1", r"cat \u732b 1"),
        ("\uff23\uff21\uff34", "CAT"),
        ("🐱", "🐱"),
        ("\U00020000", r"\U00020000"),
        ("\ue000", r"\ue000"),
        ("\udcff", r"\udcff"),
        ("e\u0301", "é"),
    ],
)
def test_what_the_font_lacks_is_written_legibly(name: str, drawn: str) -> None:
    assert make_drawable(name) == drawn


def test_no_caption_has_an_empty_box() -> None:
    empty_box = bytes(load_font(16).getmask("\U0010ffff"))

    for character in make_drawable("Löwe кошка 猫 हिन्दी ไทย"):
        assert bytes(load_font(16).getmask(character)) != empty_box


def test_pictures_of_different_classes_differ() -> None:
    """With empty boxes for letters, names of the same length would look the same."""
    pictures = [draw_picture(name) for name in ("猫猫", "犬犬", "кот", "пёс")]

    assert len({picture.tobytes() for picture in pictures}) == 4


def draw_picture(class_name: str) -> Image.Image:
    boxes_N4 = np.array([[20.0, 60.0, 90.0, 120.0]])
    panel = Panel("truth", COLORS["truth"], boxes_N4, np.array([0]))
    image_HW3 = np.zeros((200, 300, 3), np.uint8)
    return draw_side_by_side(image_HW3, [panel], class_names=[class_name])
