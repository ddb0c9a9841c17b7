"""Draws sample images of a dataset with their boxes, as one picture."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from configs.spec.dataset import DatasetManifest
from workers.data.images import InvalidImage, read_pixels
from workers.data.manifest import CocoBox, CocoDocument, CocoImage
from workers.data.statistics.dataset import read_document
from workers.errors import DatasetError

_IMAGES_PER_PART = 12
_COLUMNS = 4
_CELL_PX = 320
_CAPTION_PX = 18
_GAP_PX = 8
_FONT_PX = 12
_LEGEND_LINE_PX = 20
_COLORS = (
    *("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080"),
    *("#f032e6", "#9a6324", "#808000", "#000075"),
)
"""Of the classes, in turn."""


def write_contact_sheet(root: Path, manifest: DatasetManifest, path: Path) -> None:
    """Write up to 12 images of each part with boxes and class names to `path`.

    Every class is shown if that many images can show it, then the busiest image, then images
    evenly over the part. `DatasetError` if a file cannot be read or written.
    """
    cells: list[Image.Image] = []
    for name, split in manifest.splits.items():
        document = read_document(root, split)
        boxes = group_boxes(document)
        for image in select_images(document, boxes):
            source = root / split.images / image["file_name"]
            drawn = _draw_cell(source, boxes[image["id"]], manifest.classes)
            count = f"  {len(boxes[image['id']])} objects" if manifest.has_labels else ""
            caption = f"{name}  {image['file_name']}{count}"
            cells.append(_add_caption(drawn, caption))
    try:
        _join_cells(cells, manifest.classes).save(path, quality=88)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error.strerror or error}.") from error


def group_boxes(document: CocoDocument) -> Mapping[int, Sequence[CocoBox]]:
    """The boxes of each image, by its id."""
    boxes: dict[int, list[CocoBox]] = defaultdict(list)
    for box in document["annotations"]:
        boxes[box["image_id"]].append(box)
    return boxes


def select_images(
    document: CocoDocument, boxes: Mapping[int, Sequence[CocoBox]]
) -> list[CocoImage]:
    """The images to show, in the order of the document."""
    chosen = dict.fromkeys(islice(_candidates(document, boxes), _IMAGES_PER_PART))
    return [image for image in document["images"] if image["id"] in chosen]


def _candidates(document: CocoDocument, boxes: Mapping[int, Sequence[CocoBox]]) -> Iterator[int]:
    """Ids of images without repetition, the most informative first."""
    yielded: set[int] = set()
    first_of_class: dict[int, int] = {}
    for box in document["annotations"]:
        first_of_class.setdefault(box["category_id"], box["image_id"])
    identifiers = [image["id"] for image in document["images"]]
    busiest = max(identifiers, key=lambda identifier: len(boxes.get(identifier, ())))
    step = max(1, len(identifiers) // _IMAGES_PER_PART)
    for identifier in (*first_of_class.values(), busiest, *identifiers[::step], *identifiers):
        if identifier not in yielded:
            yielded.add(identifier)
            yield identifier


def _draw_cell(path: Path, boxes: Sequence[CocoBox], classes: Sequence[str]) -> Image.Image:
    """The image with its boxes; with class names too where several classes share a color."""
    try:
        original = Image.fromarray(read_pixels(path))
    except InvalidImage as error:
        raise DatasetError(f"{path} cannot be read: {error}.") from error
    scale = _CELL_PX / max(original.size)
    size = (max(1, round(original.width * scale)), max(1, round(original.height * scale)))
    cell = original.resize(size)
    draw = ImageDraw.Draw(cell)
    for box in boxes:
        x, y, width, height = (edge * scale for edge in box["bbox"])
        corner = (max(x + 1, x + width), max(y + 1, y + height))
        draw.rectangle((x, y, *corner), outline=_get_color(box["category_id"]), width=2)
        if len(classes) > len(_COLORS):
            _draw_label(draw, (x, y), classes[box["category_id"] - 1], box["category_id"])
    return cell


def _draw_label(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], name: str, category_id: int
) -> None:
    font = ImageFont.load_default(_FONT_PX)
    draw.rectangle(draw.textbbox(corner, name, font=font), fill=_get_color(category_id))
    draw.text(corner, name, fill="white", font=font)


def _add_caption(cell: Image.Image, caption: str) -> Image.Image:
    canvas = Image.new("RGB", (_CELL_PX, _CELL_PX + _CAPTION_PX), "white")
    canvas.paste(cell, (0, 0))
    font = ImageFont.load_default(_FONT_PX)
    ImageDraw.Draw(canvas).text((0, cell.height + 2), caption, fill="black", font=font)
    return canvas.crop((0, 0, _CELL_PX, cell.height + _CAPTION_PX))


def _join_cells(cells: Sequence[Image.Image], classes: Sequence[str]) -> Image.Image:
    """Rows of cells below a legend of the classes."""
    rows = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
    width = _COLUMNS * (_CELL_PX + _GAP_PX) + _GAP_PX
    legend = _draw_legend(classes, width)
    height = legend.height + sum(max(cell.height for cell in row) + _GAP_PX for row in rows)
    sheet = Image.new("RGB", (width, height), "white")
    sheet.paste(legend, (0, 0))
    top = legend.height
    for row in rows:
        for column, cell in enumerate(row):
            sheet.paste(cell, (_GAP_PX + column * (_CELL_PX + _GAP_PX), top))
        top += max(cell.height for cell in row) + _GAP_PX
    return sheet


def _draw_legend(classes: Sequence[str], width: int) -> Image.Image:
    font = ImageFont.load_default(_FONT_PX)
    positions: list[tuple[int, int]] = []
    x, y = _GAP_PX, _GAP_PX
    for name in classes:
        length = round(font.getlength(name)) + 32
        if x + length > width and x > _GAP_PX:
            x, y = _GAP_PX, y + _LEGEND_LINE_PX
        positions.append((x, y))
        x += length
    legend = Image.new("RGB", (width, y + _LEGEND_LINE_PX + _GAP_PX), "white")
    draw = ImageDraw.Draw(legend)
    for category, (name, (x, y)) in enumerate(zip(classes, positions, strict=True), start=1):
        draw.rectangle((x, y, x + 12, y + 12), fill=_get_color(category))
        draw.text((x + 16, y - 1), name, fill="black", font=font)
    return legend


def _get_color(category_id: int) -> str:
    return _COLORS[(category_id - 1) % len(_COLORS)]
