"""A small generated digits dataset."""

from pathlib import Path

from workers.data.digits import CLASSES, DigitsRecipe, draw_split
from workers.data.manifest import SPLITS, Origin, write_manifest


def write_digits(root: Path, *, train: int, val: int) -> Path:
    recipe = DigitsRecipe(
        train=train, val=val, image_size=96, smallest=12, largest=48, most_objects=4
    )
    contents = {name: draw_split(root, name, recipe) for name in SPLITS}
    origin = Origin(str(recipe), "none")
    write_manifest(root, name="digits", classes=CLASSES, contents=contents, origin=origin)
    return root
