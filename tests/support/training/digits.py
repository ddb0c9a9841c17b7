"""Small generated datasets of digits."""

from pathlib import Path

from workers.data.digits import CLASSES, DigitsRecipe, draw_split
from workers.data.formats.image_folder import read_image_folder
from workers.data.importer import DatasetImportRequest, ImportOptions, import_dataset
from workers.data.manifest import SPLITS, Origin, write_manifest


def write_digits(root: Path, *, train: int, val: int) -> Path:
    recipe = DigitsRecipe(
        train=train, val=val, image_size=96, smallest=12, largest=48, most_objects=4
    )
    contents = {name: draw_split(root, name, recipe) for name in SPLITS}
    origin = Origin(str(recipe), "none")
    write_manifest(root, name="digits", classes=CLASSES, contents=contents, origin=origin)
    return root


def write_unlabelled(root: Path, *, images: int) -> Path:
    """Import images of digits without their boxes, none of which `write_digits` draws."""
    recipe = DigitsRecipe(
        train=images, val=1, image_size=96, smallest=12, largest=48, most_objects=4, seed=7
    )
    draw_split(root / "drawn", "train", recipe)
    photos = read_image_folder(root / "drawn" / "images" / "train")
    request = DatasetImportRequest("photos", (), Origin("drawn", "none"), has_labels=False)
    import_dataset(photos.splits, root / "photos", request=request, options=ImportOptions())
    return root / "photos"
