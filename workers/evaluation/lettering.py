"""Text on pictures: a font with many scripts; characters that it lacks become escapes."""

import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

_FONT = Path("mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
"""Below matplotlib's folder; Pillow's own font has ASCII only."""

_PROBE_SIZE = 16
_NOT_A_CHARACTER = "\U0010ffff"


@cache
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The font in a size in pixels."""
    spec = find_spec("matplotlib")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return ImageFont.truetype(str(Path(spec.submodule_search_locations[0]) / _FONT), size)


def make_drawable(text: str) -> str:
    """The text with characters that the font has; others in another form, or as `\\u732b`."""
    if text.isascii():
        return text
    return "".join(map(_make_drawable, unicodedata.normalize("NFC", text)))


@cache
def _make_drawable(character: str) -> str:
    if _has_glyph(character):
        return character
    plain = unicodedata.normalize("NFKC", character)
    if plain != character and all(map(_has_glyph, plain)):
        return plain
    return character.encode("ascii", errors="backslashreplace").decode()


def _has_glyph(character: str) -> bool:
    if character.isascii() or character.isspace():
        return character.isprintable()
    if unicodedata.category(character) in {"Cs", "Cn", "Co", "Cc"}:
        return False
    font = load_font(_PROBE_SIZE)
    return bytes(font.getmask(character)) != bytes(font.getmask(_NOT_A_CHARACTER))
