"""Reads COCO annotation files, believing nothing in them."""

import json
from pathlib import Path
from typing import Any

from configs.spec import ClassNames
from workers.data.draft import Draft, DraftBox, DraftImage
from workers.data.problems import Fault, Problem


def classes_of_coco(annotations: Path) -> ClassNames:
    """Names of the categories by their id; empty if the file cannot be read."""
    document = _read(annotations, Draft(annotations.parent))
    categories = [c for c in _list(document, "categories") if isinstance(c, dict)]
    named = [(c["id"], str(c["name"])) for c in categories if isinstance(c.get("id"), int) and "name" in c]
    return tuple(name for _, name in sorted(named))


def read_coco(annotations: Path, images_dir: Path) -> Draft:
    """The images and boxes of one COCO file, and what is wrong with its structure."""
    draft = Draft(images_dir)
    document = _read(annotations, draft)
    names = {c.get("id"): str(c.get("name")) for c in _list(document, "categories") if isinstance(c, dict)}
    images = _images_by_id(document, annotations, draft)
    boxes: dict[int, list[DraftBox]] = {identifier: [] for identifier in images}
    seen: set[Any] = set()
    for position, annotation in enumerate(_list(document, "annotations")):
        where = f"annotation {_id_of(annotation, position)}"
        problem = _fault_of(annotation, images=images, seen=seen)
        if problem is not None:
            draft.problems.append(Problem(annotations, where, *problem))
            continue
        seen.add(annotation["id"])
        label = names.get(annotation.get("category_id"), f"category {annotation.get('category_id')}")
        left, top, width, height = (float(edge) for edge in annotation["bbox"])
        box = DraftBox(where, label, (left, top, width, height), bool(annotation.get("iscrowd", 0)))
        boxes[annotation["image_id"]].append(box)
    for identifier, image in images.items():
        size = (image["width"], image["height"]) if _has_size(image) else None
        draft.images.append(
            DraftImage(annotations, f"image {identifier}", image["file_name"], size, tuple(boxes[identifier]))
        )
    return draft


def _read(path: Path, draft: Draft) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        draft.problems.append(Problem(path, "file", Fault.MALFORMED, "it does not exist"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        line = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "file"
        draft.problems.append(Problem(path, line, Fault.MALFORMED, str(error)))
    else:
        if isinstance(document, dict):
            return document
        draft.problems.append(Problem(path, "file", Fault.MALFORMED, "it is not a COCO document"))
    return {}


def _list(document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key, [])
    return value if isinstance(value, list) else []


def _images_by_id(document: dict[str, Any], path: Path, draft: Draft) -> dict[int, dict[str, Any]]:
    images: dict[int, dict[str, Any]] = {}
    for position, image in enumerate(_list(document, "images")):
        where = f"image {_id_of(image, position)}"
        if not isinstance(image, dict) or not isinstance(image.get("id"), int) or not _has_name(image):
            draft.problems.append(Problem(path, where, Fault.MALFORMED, "it needs an id and a file_name"))
        elif image["id"] in images:
            draft.problems.append(Problem(path, where, Fault.DUPLICATE_IMAGE, f"id {image['id']} is used twice"))
        else:
            images[image["id"]] = image
    return images


def _fault_of(
    annotation: Any, *, images: dict[int, dict[str, Any]], seen: set[Any]
) -> tuple[Fault, str] | None:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("id"), int):
        return Fault.MALFORMED, "it needs an id"
    if annotation["id"] in seen:
        return Fault.DUPLICATE_ANNOTATION, f"id {annotation['id']} is used twice"
    if annotation.get("image_id") not in images:
        return Fault.UNKNOWN_IMAGE, f"image {annotation.get('image_id')} is not listed"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(edge) for edge in box):
        return Fault.BAD_BOX, f"bbox is {box!r}"
    return None


def _id_of(thing: Any, position: int) -> Any:
    return thing["id"] if isinstance(thing, dict) and "id" in thing else f"at position {position}"


def _has_name(image: dict[str, Any]) -> bool:
    return isinstance(image.get("file_name"), str) and bool(image["file_name"])


def _has_size(image: dict[str, Any]) -> bool:
    return all(isinstance(image.get(side), int) for side in ("width", "height"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
