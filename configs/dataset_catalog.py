"""Known datasets: those that presets name, and how to get each."""

from collections.abc import Iterable
from typing import Final

from configs.suggestions import ask_did_you_mean

DIGITS_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "digits": (
        *("--train=1000", "--val=400", "--image-size=96"),
        *("--smallest=14", "--largest=64", "--most-objects=5"),
    ),
    "digits-large": ("--train=8000", "--val=1000"),
    "digits-tiny": (
        *("--train=96", "--val=16", "--image-size=96"),
        *("--smallest=12", "--largest=48", "--most-objects=4"),
    ),
}
"""Options of `tandem data digits` by the dataset's name. `digits` has the students' images, with
objects as large as in the teacher's `digits-large`, and a third of the pixels."""

_IMPORTS = {
    "bccd": "Import it with `tandem data import-voc --name bccd --root FOLDER --drop-bad`.",
    "coco2017": (
        "Import it with `tandem data import-coco --name coco2017 ...`; "
        "`tandem data import-coco --help` lists its options."
    ),
}


def how_to_get_dataset(name: str, *, registered: Iterable[str] = ()) -> str:
    """A sentence that tells how to get the dataset `name`, or which name was meant."""
    if name in DIGITS_OPTIONS:
        return f"Make it with `tandem data digits --name {name}`."
    if name in _IMPORTS:
        return _IMPORTS[name]
    if question := ask_did_you_mean(name, registered):
        return question.capitalize()
    return "`tandem data list` shows the registered datasets."
