"""Finds the splits of a Pascal VOC folder: lists, folders of splits, or XML files beside images."""

from itertools import islice
from pathlib import Path

from workers.data.formats.file_names import FileIndex
from workers.data.formats.split_names import UNSPLIT, list_split_folders
from workers.data.formats.voc import VocFiles, find_voc_files
from workers.data.formats.xml_tree import MalformedXml, parse_xml

_SETS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
_NUM_PROBED = 20


def find_voc_splits(root: Path) -> dict[str, VocFiles]:
    """VOC's splits in `root`; empty if it has no XML files of VOC."""
    files = find_voc_files(root)
    if not _has_annotations(files):
        return {}
    listed = _find_lists(root)
    if listed:
        return listed
    folders = list_split_folders(root)
    if folders:
        splits = {name: find_voc_files(folder) for name, folder in folders.items()}
        return {name: split for name, split in splits.items() if _has_annotations(split)}
    images = list_split_folders(files.images)
    splits = {
        name: VocFiles(folder, images.get(name, files.images))
        for name, folder in list_split_folders(files.annotations).items()
    }
    return splits or {UNSPLIT: files}


def _find_lists(root: Path) -> dict[str, VocFiles]:
    splits: dict[str, VocFiles] = {}
    for split, image_sets in _SETS.items():
        for image_set in image_sets:
            files = find_voc_files(root, image_set)
            if files.list_file is not None and files.list_file.is_file():
                splits.setdefault(split, files)
    if "train" not in splits and "val" not in splits:
        files = find_voc_files(root, "trainval")
        if files.list_file is not None and files.list_file.is_file():
            splits[UNSPLIT] = files
    return splits


def _has_annotations(files: VocFiles) -> bool:
    """Whether one of the first XML files is an annotation, of an image in the images' folder."""
    index = FileIndex(files.annotations)
    images = FileIndex(files.images)
    names = [path for path in index.paths if path.lower().endswith(".xml")]
    for name in islice(names, _NUM_PROBED):
        if files.images == files.annotations and "/" in name and not images.find_stem(name[:-4]):
            continue
        try:
            parse_xml(files.annotations / name, root="annotation")
        except MalformedXml:
            continue
        return True
    return False
