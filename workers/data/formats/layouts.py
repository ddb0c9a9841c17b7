"""Recognizes the layout of a dataset's folder, and reads it without options."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from configs.spec.dataset import MANIFEST, ClassNames, DatasetClasses
from workers.data.formats.coco import read_coco
from workers.data.formats.coco_layout import CocoFiles, find_coco_splits
from workers.data.formats.labelme import LabelMeFiles, find_labelme_splits, read_labelme
from workers.data.formats.parsed import ParsedSplit, collect_labels
from workers.data.formats.seeded_split import SeededSplit, split_by_seed
from workers.data.formats.split_names import UNSPLIT, list_entries, list_folders
from workers.data.formats.voc import VocFiles, read_voc_files
from workers.data.formats.voc_layout import find_voc_splits
from workers.data.formats.yolo import YoloFiles, read_yolo
from workers.data.formats.yolo_layout import find_yolo_splits
from workers.data.manifest import SPLITS, SplitName
from workers.errors import DatasetError

SplitFiles = CocoFiles | VocFiles | YoloFiles | LabelMeFiles

_MAX_DEPTH = 4
_MAX_LISTED = 8


class AnnotationFormat(StrEnum):
    """Formats that are recognized; the values are those of `--format`."""

    COCO = "coco"
    VOC = "voc"
    YOLO = "yolo"
    LABELME = "labelme"


_FINDERS: Mapping[AnnotationFormat, Callable[[Path], Mapping[str, SplitFiles]]] = {
    AnnotationFormat.COCO: find_coco_splits,
    AnnotationFormat.VOC: find_voc_splits,
    AnnotationFormat.YOLO: find_yolo_splits,
    AnnotationFormat.LABELME: find_labelme_splits,
}

_UNDERSTOOD = """\
  COCO: annotations/instances_train*.json and instances_val*.json with images in train*/ and val*/
        or images/; train/_annotations.coco.json and valid/_annotations.coco.json (Roboflow);
        annotations/instances_default.json and images/ (CVAT); a JSON file beside its images
  VOC:  Annotations/, JPEGImages/ and ImageSets/Main/train.txt and val.txt; XML files beside their
        images; train/ and valid/ with either
  YOLO: data.yaml that names folders or lists of train and val; images/train/ and labels/train/,
        or train/images/ and train/labels/, with classes.txt; darknet's obj.data
  LabelMe: a JSON file for each image, beside it; train/ and val/ of these"""


class UnknownLayout(DatasetError):
    """No layout, or more than one, is recognized in a folder."""


@dataclass(frozen=True)
class Layout:
    """A folder of a recognized layout."""

    format: AnnotationFormat
    root: Path
    """The folder of the dataset: the given one, or the only folder inside of it."""

    splits: Mapping[str, SplitFiles]
    """Files by split: train, val and test, as far as they exist, or `all`."""

    @property
    def missing(self) -> tuple[SplitName, ...]:
        """Which of train and val do not exist."""
        return tuple(name for name in SPLITS if name not in self.splits)


@dataclass(frozen=True)
class ParsedDataset:
    """Both splits as annotated, and the classes in the order of the annotations."""

    splits: Mapping[SplitName, ParsedSplit]
    classes: DatasetClasses
    notes: tuple[str, ...] = ()
    has_labels: bool = True
    """False for images alone: there are no classes, and `val` is empty."""


def detect_layout(folder: Path, format: AnnotationFormat | None = None) -> Layout:
    """Recognize a dataset's layout, of any format unless one is given; raises `UnknownLayout`.

    A folder that holds nothing but another folder, as archives unpack to, is entered.
    """
    root = folder
    if not folder.is_dir():
        raise UnknownLayout(f"{folder} is not a folder.")
    for _ in range(_MAX_DEPTH):
        if (root / MANIFEST).is_file():
            raise UnknownLayout(
                f"{root} is a dataset of Tandem already; register it with `tandem data add {root}`."
            )
        layouts = [
            Layout(found_format, root, splits)
            for found_format, find in _FINDERS.items()
            if format in (None, found_format) and (splits := find(root))
        ]
        if len(layouts) > 1:
            formats = " and ".join(layout.format.value for layout in layouts)
            raise UnknownLayout(f"{root} is in the formats {formats}: choose one with --format.")
        if layouts:
            return layouts[0]
        entries = list_entries(root)
        if len(entries) != 1 or not entries[0].is_dir():
            break
        root = entries[0]
    raise UnknownLayout(
        f"The layout of {root} is not recognized. Understood are:\n{_UNDERSTOOD}\n"
        f"The folder holds {_describe_contents(root)}. Images without annotations are "
        "imported with `tandem data import-images`."
    )


def read_layout(
    layout: Layout, *, train_set: str = "train", val_set: str = "val", seeded: SeededSplit | None
) -> ParsedDataset:
    """Parse train and val. Where there is no val, a part of train becomes it, as `seeded` says.

    Raises `DatasetError` if a split is missing, or if `seeded` is given although none is.
    """
    splits = dict(layout.splits)
    if UNSPLIT in splits and train_set == "train":
        train_set = UNSPLIT
    if train_set not in splits or (val_set not in splits and val_set != "val"):
        raise DatasetError(
            f"{layout.root} has no {train_set if train_set not in splits else val_set}; it has "
            f"{', '.join(splits)}. Choose with --train-set and --val-set."
        )
    train, classes = read_split(splits[train_set])
    if val_set in splits:
        if seeded is not None:
            raise DatasetError(
                f"{layout.root} has {val_set} already, so --val-fraction has no effect; leave it "
                "out."
            )
        val, val_classes = read_split(splits[val_set])
        names = classes or val_classes or collect_labels(train, val)
        return ParsedDataset({"train": train, "val": val}, names)
    seeded = seeded or SeededSplit()
    parsed = split_by_seed(train, seeded)
    note = (
        f"There is no val: {len(parsed['val'].images):,} of {len(train.images):,} images, "
        f"{seeded.val_fraction:.0%}, become it by the seed {seeded.seed}."
    )
    return ParsedDataset(parsed, classes or collect_labels(train), (note,))


def read_split(files: SplitFiles) -> tuple[ParsedSplit, ClassNames]:
    """Parse a split; classes are empty where the format has no list of them."""
    match files:
        case CocoFiles():
            return read_coco(files.annotations, files.images, document=files.document)
        case VocFiles():
            return read_voc_files(files), ()
        case YoloFiles():
            return read_yolo(files), files.names
        case LabelMeFiles():
            return read_labelme(files), ()


def _describe_contents(folder: Path) -> str:
    """The folder's subfolders and kinds of files, as a message shows them."""
    folders = [f"{path.name}/" for path in list_folders(folder)]
    files = [path for path in list_entries(folder) if path.is_file()]
    endings = Counter(path.suffix.lower() or "no ending" for path in files)
    kinds = [f"{count:,} files of {ending}" for ending, count in endings.most_common(_MAX_LISTED)]
    parts = [*folders[:_MAX_LISTED], *(["..."] if len(folders) > _MAX_LISTED else []), *kinds]
    return ", ".join(parts) or "nothing"
