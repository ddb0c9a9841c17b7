"""A small digits set for tests, drawn in a moment."""

from pathlib import Path

from workers.data.digits import CLASSES, DigitsRecipe, draw_split
from workers.data.manifest import SPLITS, Origin, write_manifest


def write_digits(root: Path, *, train: int, val: int) -> Path:
    recipe = DigitsRecipe(
        train=train, val=val, image_size=96, smallest=12, largest=48, most_objects=4
    )
    parts = {part: draw_split(root, part, recipe) for part in SPLITS}
    origin = Origin(str(recipe), "none")
    write_manifest(root, name="digits", classes=CLASSES, contents=parts, origin=origin)
    return root
